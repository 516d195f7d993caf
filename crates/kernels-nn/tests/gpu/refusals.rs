//! What is refused before any launch, and what launches nothing.

use device_mem::{Device, DeviceBuffer, MemError, RanOn};
use kernels_nn::{
    Branch, Embedding, Linear, NnError, Residual, RmsNorm, SamplerConfig, Weight, add, add_rms_norm, argmax,
    embed, linear, norm_linear, norm_swiglu, rms_norm, rms_norm_in_place, sample, swiglu,
};

use crate::common::{gpu, gpus, norm_on, on, unwritten};

/// The inputs of every operation, of two rows, on one device.
struct Operands {
    embedding: Embedding,
    layer: Linear,
    norm: RmsNorm,
    ids: DeviceBuffer<u32>,
    x: DeviceBuffer<f32>,
    out: DeviceBuffer<f32>,
    tokens: DeviceBuffer<u32>,
    draws: DeviceBuffer<u32>,
}

const WARM: SamplerConfig = SamplerConfig { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 0 };

impl Operands {
    /// Outputs of `rows` rows, where two are right.
    fn new(device: &Device, rows: usize) -> Operands {
        let ones = |len: usize| on(device, &vec![1.0_f32; len]);
        Operands {
            embedding: Embedding::new(Weight::F32(ones(12)), 3, 4).unwrap(),
            layer: Linear::new(Weight::F32(ones(16)), Some(ones(4)), 4, 4).unwrap(),
            norm: norm_on(device, 1, 4, 1e-5),
            ids: on(device, &[0, 1]),
            x: ones(8),
            out: on(device, &vec![7.0; rows * 4]),
            tokens: on(device, &vec![7; rows]),
            draws: on(device, &vec![7; rows * 4]),
        }
    }

    fn plain(&self) -> Residual<'_> {
        Residual { x: self.x.as_view(), branch: None }
    }

    /// What every operation says to operands of `self` and outputs of `other`.
    fn refusals(&self, other: &mut Operands) -> Vec<NnError> {
        let Operands { out, tokens, draws, x, norm, .. } = other;
        let mut out = out.as_view_mut().unwrap();
        let results = [
            embed(&self.embedding, self.ids.as_view(), out.reborrow()),
            linear(self.x.as_view(), &self.layer, out.reborrow()),
            rms_norm(self.x.as_view(), &self.norm, out.reborrow()),
            add_rms_norm(out.reborrow(), self.x.as_view(), None, &self.norm, x.as_view_mut().unwrap()),
            add_rms_norm(out.reborrow(), self.x.as_view(), Some(norm), &self.norm, x.as_view_mut().unwrap()),
            norm_linear(self.plain(), &self.norm, [(&self.layer, out.reborrow())]),
            norm_linear(
                Residual {
                    x: self.x.as_view(),
                    branch: Some(Branch { rows: self.x.as_view(), norm: None, sum: out.reborrow() }),
                },
                &self.norm,
                [(&self.layer, x.as_view_mut().unwrap())],
            ),
            norm_swiglu(self.plain(), &self.norm, &self.layer, out.reborrow()),
            swiglu(self.x.as_view(), 2, out.reborrow()),
            add(out.reborrow(), self.x.as_view()),
            argmax(self.x.as_view(), 4, tokens.as_view_mut().unwrap()),
            sample(self.x.as_view(), 4, &WARM, draws.as_view_mut().unwrap(), tokens.as_view_mut().unwrap()),
        ];
        results.into_iter().map(Result::unwrap_err).collect()
    }
}

#[test]
fn wrong_lengths_are_refused_before_any_launch() {
    for device in gpus() {
        let (operands, mut wrong) = (Operands::new(&device, 2), Operands::new(&device, 3));
        let before = device.transfers();
        let refusals = operands.refusals(&mut wrong);
        assert_eq!(device.transfers(), before);
        assert_eq!(refusals.len(), 12);
        for refusal in refusals {
            assert!(
                matches!(refusal, NnError::OperandLength { .. } | NnError::VectorLength { .. }),
                "{refusal}"
            );
        }
        assert_eq!(wrong.out.to_host_vec().unwrap(), [7.0; 12]);
        assert_eq!(wrong.tokens.to_host_vec().unwrap(), [7; 3]);
    }
}

#[test]
fn operands_of_two_devices_are_refused_and_left_alone() {
    let (here, there) = (gpu(), gpu());
    for other in [there.into(), Device::Cpu] {
        let (operands, mut elsewhere) = (Operands::new(&here, 2), Operands::new(&other, 2));
        let before = [here.transfers(), other.transfers()];
        for refusal in operands.refusals(&mut elsewhere) {
            assert!(matches!(refusal, NnError::Mem(MemError::ForeignDevice { .. })), "{refusal}");
        }
        assert_eq!([here.transfers(), other.transfers()], before);
        assert_eq!(elsewhere.out.to_host_vec().unwrap(), [7.0; 8]);
    }
}

#[test]
fn norms_of_two_widths_and_no_vocabulary_are_refused() {
    let device = gpu();
    let (norm, narrow) = (norm_on(&device, 1, 4, 0.0), norm_on(&device, 1, 3, 0.0));
    let [mut x, branch, mut out] = [(); 3].map(|()| unwritten(&device, 8));
    let mut tokens = on(&device, &[0_u32; 2]);
    let before = device.transfers();
    let (x, out) = (x.as_view_mut().unwrap(), out.as_view_mut().unwrap());
    let error = add_rms_norm(x, branch.as_view(), Some(&narrow), &norm, out).unwrap_err();
    assert!(
        matches!(error, NnError::VectorLength { vector: "branch_norm", expected: 4, found: 3 }),
        "{error}"
    );
    let error = argmax(branch.as_view(), 0, tokens.as_view_mut().unwrap()).unwrap_err();
    assert!(matches!(error, NnError::ZeroDimension { dimension: "vocab" }), "{error}");
    assert_eq!(device.transfers(), before);
}

#[test]
fn no_tokens_launch_nothing() {
    for device in gpus() {
        let Operands { embedding, layer, norm, .. } = Operands::new(&device, 0);
        let [ids, mut tokens, mut draws] = [(); 3].map(|()| on::<u32>(&device, &[]));
        let [mut x, mut out, y] = [(); 3].map(|()| on::<f32>(&device, &[]));
        let before = device.transfers();
        let ran_on = [
            embed(&embedding, ids.as_view(), out.as_view_mut().unwrap()),
            linear(y.as_view(), &layer, out.as_view_mut().unwrap()),
            rms_norm(y.as_view(), &norm, out.as_view_mut().unwrap()),
            rms_norm_in_place(x.as_view_mut().unwrap(), &norm),
            add_rms_norm(x.as_view_mut().unwrap(), y.as_view(), None, &norm, out.as_view_mut().unwrap()),
            norm_linear(
                Residual { x: y.as_view(), branch: None },
                &norm,
                [(&layer, out.as_view_mut().unwrap())],
            ),
            norm_swiglu(Residual { x: y.as_view(), branch: None }, &norm, &layer, out.as_view_mut().unwrap()),
            swiglu(y.as_view(), 2, out.as_view_mut().unwrap()),
            add(x.as_view_mut().unwrap(), y.as_view()),
            argmax(y.as_view(), 4, tokens.as_view_mut().unwrap()),
            sample(y.as_view(), 4, &WARM, draws.as_view_mut().unwrap(), tokens.as_view_mut().unwrap()),
        ];
        assert_eq!(ran_on.map(Result::unwrap), [RanOn::Hip; 11]);
        assert_eq!(device.transfers(), before);
    }
}

#[test]
fn layers_that_do_not_fit_one_launch_are_refused() {
    let device = gpu();
    let Operands { layer, norm, x, mut out, .. } = Operands::new(&device, 2);
    let rows = || Residual { x: x.as_view(), branch: None };
    let ones = |len: usize| on(&device, &vec![1.0_f32; len]);
    let before = device.transfers();

    let odd = Linear::new(Weight::F32(ones(12)), None, 3, 4).unwrap();
    let error = norm_swiglu(rows(), &norm, &odd, out.as_view_mut().unwrap()).unwrap_err();
    assert!(matches!(error, NnError::GateUp { out_features: 3 }), "{error}");

    let narrow = Linear::new(Weight::F32(ones(12)), None, 4, 3).unwrap();
    let error = norm_linear(rows(), &norm, [(&narrow, out.as_view_mut().unwrap())]).unwrap_err();
    assert!(matches!(error, NnError::VectorLength { vector: "norm", expected: 3, found: 4 }), "{error}");

    let narrow = norm_on(&device, 1, 3, 0.0);
    let mut sum = ones(8);
    let branch = Branch { rows: x.as_view(), norm: Some(&narrow), sum: sum.as_view_mut().unwrap() };
    let rows = Residual { x: x.as_view(), branch: Some(branch) };
    let error = norm_swiglu(rows, &norm, &layer, out.as_view_mut().unwrap()).unwrap_err();
    assert!(
        matches!(error, NnError::VectorLength { vector: "branch_norm", expected: 4, found: 3 }),
        "{error}"
    );
    assert_eq!(device.transfers().launches, before.launches);
}
