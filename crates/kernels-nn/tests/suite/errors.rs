//! Every refusal names the thing, what was found and the remedy, and leaves the output as it was.

use std::io::Write;

use device_mem::{DType, Device, MappedFile, MemError};
use kernels_nn::{
    Embedding, Linear, NnError, Residual, RmsNorm, Sampler, SamplerConfig, Weight, WeightType, add, embed,
    linear, norm_linear, rms_norm, rms_norm_in_place, swiglu,
};

use crate::common::{cpu, weight, zeros};

fn f32_weight(len: usize) -> Weight {
    weight(DType::F32, &vec![1.0; len]).0
}

#[track_caller]
fn says(error: &NnError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn shapes_that_do_not_fit_the_parameters_are_refused() {
    for (out_features, in_features, name) in [(0, 3, "out_features"), (3, 0, "in_features")] {
        let error = Linear::new(f32_weight(0), None, out_features, in_features).unwrap_err();
        assert!(matches!(error, NnError::ZeroDimension { .. }), "{error}");
        says(&error, &[name, "config"]);
    }
    let error = Linear::new(f32_weight(5), None, 2, 3).unwrap_err();
    assert!(matches!(error, NnError::MatrixLength { rows: 2, columns: 3, found: 5, .. }), "{error}");
    let error = Linear::new(f32_weight(0), None, usize::MAX, 2).unwrap_err();
    assert!(matches!(error, NnError::MatrixLength { rows: usize::MAX, .. }), "{error}");
    let error = Linear::new(f32_weight(6), Some(zeros(3)), 2, 3).unwrap_err();
    assert!(matches!(error, NnError::VectorLength { expected: 2, found: 3, .. }), "{error}");
    says(&error, &["bias", "2", "3"]);

    assert!(matches!(
        Embedding::new(f32_weight(6), 0, 3),
        Err(NnError::ZeroDimension { dimension: "vocab" })
    ));
    assert!(matches!(Embedding::new(f32_weight(6), 4, 2), Err(NnError::MatrixLength { .. })));
    assert!(matches!(RmsNorm::new(zeros(0), 1e-5), Err(NnError::ZeroDimension { dimension: "hidden" })));
    for eps in [-1e-5, f32::NAN, f32::INFINITY] {
        let error = RmsNorm::new(zeros(4), eps).unwrap_err();
        assert!(matches!(error, NnError::Eps { .. }), "{error}");
        says(&error, &[&eps.to_string(), "rms_norm_eps"]);
    }
}

#[test]
fn weights_come_from_files_in_the_types_that_checkpoints_use() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0; 24]).unwrap();
    let file = MappedFile::open(file.path()).unwrap();
    for (dtype, len) in [(DType::F32, 4), (DType::F16, 8), (DType::BF16, 8)] {
        let weight = Weight::from_mapped(&Device::Cpu, &file, 8..24, dtype).unwrap();
        assert_eq!(
            (weight.weight_type(), weight.len(), weight.bytes(), weight.is_empty()),
            (WeightType::Float(dtype), len, 16, false)
        );
    }
    let error = Weight::from_mapped(&Device::Cpu, &file, 8..24, DType::U32).unwrap_err();
    assert!(matches!(error, NnError::WeightDType { found: DType::U32 }), "{error}");
    let error = Weight::from_mapped(&Device::Cpu, &file, 8..32, DType::F32).unwrap_err();
    assert!(matches!(error, NnError::Mem(MemError::MappedRange { .. })), "{error}");
}

#[test]
fn operands_of_the_wrong_length_are_refused_and_outputs_kept() {
    let layer = Linear::new(f32_weight(6), None, 2, 3).unwrap();
    let norm = RmsNorm::new(cpu(&[1.0, 1.0]), 1e-5).unwrap();
    let mut out = cpu(&[7.0; 5]);
    let mut refuse = |what: &str, run: &dyn Fn(device_mem::ViewMut<'_, f32>) -> NnError| {
        let error = run(out.as_view_mut().unwrap());
        assert!(error.to_string().contains("elements"), "{what}: {error}");
        assert_eq!(out.to_host_vec().unwrap(), [7.0; 5], "{what}");
        error
    };
    let error = refuse("linear x", &|out| linear(zeros(4).as_view(), &layer, out).unwrap_err());
    assert!(matches!(error, NnError::Ragged { operand: "x", width: 3, found: 4 }), "{error}");
    let error = refuse("linear out", &|out| linear(zeros(6).as_view(), &layer, out).unwrap_err());
    assert!(
        matches!(error, NnError::OperandLength { operand: "out", tokens: 2, width: 2, found: 5 }),
        "{error}"
    );
    let error = refuse("norm x", &|out| rms_norm(zeros(5).as_view(), &norm, out).unwrap_err());
    assert!(matches!(error, NnError::Ragged { operand: "x", .. }), "{error}");
    let error = refuse("norm in place", &|out| rms_norm_in_place(out, &norm).unwrap_err());
    assert!(matches!(error, NnError::Ragged { operand: "x", width: 2, found: 5 }), "{error}");
    let error = refuse("norm out", &|out| rms_norm(zeros(6).as_view(), &norm, out).unwrap_err());
    assert!(matches!(error, NnError::OperandLength { operand: "out", .. }), "{error}");
    let error = refuse("swiglu out", &|out| swiglu(zeros(8).as_view(), 2, out).unwrap_err());
    assert!(matches!(error, NnError::Ragged { operand: "out", .. }), "{error}");
    let error = refuse("swiglu gate_up", &|out| swiglu(zeros(8).as_view(), 5, out).unwrap_err());
    assert!(matches!(error, NnError::OperandLength { operand: "gate_up", width: 10, .. }), "{error}");
    let error = refuse("add", &|out| add(out, zeros(4).as_view()).unwrap_err());
    assert!(matches!(error, NnError::VectorLength { vector: "y", expected: 5, found: 4 }), "{error}");

    let error = swiglu(zeros(0).as_view(), 0, zeros(0).as_view_mut().unwrap()).unwrap_err();
    assert!(matches!(error, NnError::ZeroDimension { dimension: "ff" }), "{error}");
}

#[test]
fn an_id_outside_the_vocabulary_is_named_and_nothing_is_written() {
    let embedding = Embedding::new(f32_weight(6), 3, 2).unwrap();
    let mut out = cpu(&[7.0; 6]);
    for id in [3, u32::MAX] {
        let error = embed(&embedding, cpu(&[0, 2, id]).as_view(), out.as_view_mut().unwrap()).unwrap_err();
        assert!(matches!(error, NnError::TokenId { index: 2, vocab: 3, .. }), "{error}");
        says(&error, &[&id.to_string(), "index 2", "vocabulary of 3", "tokenizer"]);
        assert_eq!(out.to_host_vec().unwrap(), [7.0; 6]);
    }
    let error = embed(&embedding, cpu(&[0]).as_view(), out.as_view_mut().unwrap()).unwrap_err();
    assert!(matches!(error, NnError::OperandLength { operand: "out", tokens: 1, width: 2, found: 6 }));
}

#[test]
fn sampling_refuses_settings_and_logits_that_give_no_distribution() {
    for temperature in [-0.1, f32::NAN, f32::INFINITY] {
        let error = Sampler::new(SamplerConfig { temperature, ..SamplerConfig::default() }).unwrap_err();
        assert!(matches!(error, NnError::Temperature { .. }), "{error}");
        says(&error, &[&temperature.to_string(), "greedy"]);
    }
    for top_p in [0.0, -0.5, 1.5, f32::NAN] {
        let error = Sampler::new(SamplerConfig { top_p, ..SamplerConfig::default() }).unwrap_err();
        assert!(matches!(error, NnError::TopP { .. }), "{error}");
        says(&error, &[&top_p.to_string(), "at most 1"]);
    }
    for temperature in [0.0, 1.0] {
        let mut sampler = Sampler::new(SamplerConfig { temperature, ..SamplerConfig::default() }).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let error = sampler.sample(&[0.0, 1.0, bad]).unwrap_err();
            assert!(matches!(error, NnError::Logit { id: 2, .. }), "{error}");
        }
        for logits in [&[][..], &[f32::NEG_INFINITY; 3]] {
            let error = sampler.sample(logits).unwrap_err();
            assert!(matches!(error, NnError::NoCandidate { vocab } if vocab == logits.len()), "{error}");
        }
        assert_eq!(sampler.step(), 0);
    }
}

#[test]
fn a_fused_operation_refuses_what_its_kernel_does_not_count() {
    let error = |hidden: usize, tokens: usize| {
        let norm = RmsNorm::new(zeros(hidden), 1e-5).unwrap();
        let layer = Linear::new(f32_weight(hidden), None, 1, hidden).unwrap();
        let (x, mut out) = (zeros(tokens * hidden), zeros(tokens));
        let rows = Residual { x: x.as_view(), branch: None };
        norm_linear(rows, &norm, [(&layer, out.as_view_mut().unwrap())]).unwrap_err()
    };
    let refused = error(1, (1 << 16) + 1);
    assert!(matches!(refused, NnError::TooManyTokens { tokens: 65_537, most: 65_536 }), "{refused}");
    says(&refused, &["65537", "linear"]);
    let refused = error(1 << 25, 0);
    assert!(matches!(refused, NnError::RowTooWide { width: 0x200_0000, most: 0x1ff_ffff }), "{refused}");
    says(&refused, &["33554432", "linear"]);
}
