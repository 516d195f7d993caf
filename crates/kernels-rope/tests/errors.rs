//! Every refusal names the thing, what was found and the remedy, and leaves the operands as they were.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod common;

use common::{glm4, spec, table};
use device_mem::{Device, DeviceBuffer};
use kernels_rope::{
    Axes, HeadsMut, InvFreq, Layout, Pairing, Positions, RopeConfig, RopeError, RopeSpec, RopeTable, Scaling,
    apply_position_embeddings, apply_rope,
};

fn refused(config: RopeConfig) -> RopeError {
    RopeSpec::new(config).unwrap_err()
}

#[track_caller]
fn says(error: &RopeError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn odd_zero_and_too_large_rotary_dims_are_refused() {
    for (rotary_dim, head_dim) in [(63, 128), (0, 128), (130, 128), (2, 0), (u32::MAX, u32::MAX)] {
        let error = refused(RopeConfig { head_dim, rotary_dim, ..glm4() });
        assert!(matches!(error, RopeError::RotaryDim { .. }), "{error}");
        says(&error, &[&rotary_dim.to_string(), &head_dim.to_string(), "partial_rotary_factor"]);
    }
    let error = refused(RopeConfig { rotary_dim: 66, axes: Axes::TwoBlocks, ..glm4() });
    assert!(matches!(error, RopeError::TwoBlocks { rotary_dim: 66 }), "{error}");
}

#[test]
fn a_theta_that_is_no_positive_number_is_refused() {
    for theta in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let error = refused(RopeConfig { theta, ..glm4() });
        assert!(matches!(error, RopeError::Theta { .. }), "{error}");
        says(&error, &[&theta.to_string(), "rope_theta"]);
    }
}

fn yarn() -> Scaling {
    Scaling::Yarn {
        factor: 4.0,
        trained_positions: 32_768,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        mscale: None,
        mscale_all_dim: None,
        truncate: true,
    }
}

fn llama3(low_freq_factor: f64, high_freq_factor: f64) -> Scaling {
    Scaling::Llama3 { factor: 8.0, low_freq_factor, high_freq_factor, trained_positions: 8192 }
}

fn longrope(short: Vec<f64>, long: Vec<f64>, trained_positions: u32) -> Scaling {
    Scaling::LongRope {
        factor: 8.0,
        short_factor: short,
        long_factor: long,
        trained_positions,
        attention_factor: None,
    }
}

#[test]
fn scaling_parameters_outside_their_range_are_refused_by_name() {
    let ones = || vec![1.0; 32];
    let mut cases = Vec::new();
    for factor in [0.5, f64::NAN, f64::INFINITY] {
        cases.push((Scaling::Linear { factor }, "factor"));
        cases.push((Scaling::Dynamic { factor, trained_positions: 8192 }, "factor"));
    }
    cases.push((Scaling::Dynamic { factor: 2.0, trained_positions: 0 }, "original_max_position_embeddings"));
    cases.push((llama3(0.0, 4.0), "low_freq_factor"));
    cases.push((llama3(4.0, 4.0), "high_freq_factor"));
    cases.push((llama3(1.0, f64::NAN), "high_freq_factor"));
    cases.push((longrope(ones(), ones(), 1), "original_max_position_embeddings"));
    for (scaling, name) in cases {
        let error = refused(RopeConfig { scaling, ..glm4() });
        let RopeError::Scaling { parameter, .. } = error else { panic!("{error}") };
        assert_eq!(parameter, name, "{error}");
        says(&error, &["rope_scaling"]);
    }
}

#[test]
fn yarn_parameters_outside_their_range_are_refused_by_name() {
    let with = |change: fn(&mut Scaling)| {
        let mut scaling = yarn();
        change(&mut scaling);
        scaling
    };
    macro_rules! yarn_with {
        ($field:ident = $value:expr) => {
            with(|scaling| {
                if let Scaling::Yarn { $field, .. } = scaling {
                    *$field = $value;
                }
            })
        };
    }
    for (scaling, theta, name) in [
        (yarn_with!(factor = 0.0), 1e4, "factor"),
        (yarn_with!(trained_positions = 0), 1e4, "original_max_position_embeddings"),
        (yarn_with!(beta_slow = -1.0), 1e4, "beta_slow"),
        (yarn_with!(beta_fast = 1.0), 1e4, "beta_fast"),
        (yarn_with!(attention_factor = Some(0.0)), 1e4, "attention_factor"),
        (yarn_with!(attention_factor = Some(f64::NAN)), 1e4, "attention_factor"),
        (yarn(), 1.0, "rope_theta"),
    ] {
        let error = refused(RopeConfig { scaling, theta, ..glm4() });
        let RopeError::Scaling { kind: "yarn", parameter, .. } = error else { panic!("{error}") };
        assert_eq!(parameter, name, "{error}");
    }
}

#[test]
fn lists_and_sections_that_do_not_fit_the_pairs_are_refused() {
    let refuse = |scaling| refused(RopeConfig { scaling, ..glm4() });
    let error = refuse(longrope(vec![1.0; 31], vec![1.0; 32], 4096));
    assert!(
        matches!(error, RopeError::FactorCount { list: "short_factor", expected: 32, found: 31 }),
        "{error}"
    );
    let mut long = vec![1.0; 32];
    long[5] = 0.0;
    let error = refuse(longrope(vec![1.0; 32], long, 4096));
    assert!(matches!(error, RopeError::Factor { list: "long_factor", index: 5, .. }), "{error}");
    for sections in [vec![], vec![8, 12, 11], vec![u32::MAX; 3]] {
        let error = refused(RopeConfig { axes: Axes::Sections(sections), ..glm4() });
        assert!(matches!(error, RopeError::Sections { expected: 32, .. }), "{error}");
    }
}

#[test]
fn frequencies_that_vanish_or_overflow_are_refused() {
    let error = refused(RopeConfig { theta: 1e12, inv_freq: InvFreq::RoundedToF16, ..glm4() });
    assert!(matches!(error, RopeError::Frequency { .. }), "{error}");
    let scaling = Scaling::Dynamic { factor: f64::MAX, trained_positions: 1 };
    let spec = spec(RopeConfig { scaling, ..glm4() });
    let error = RopeTable::new(&spec, 1000, &Device::Cpu).unwrap_err();
    assert!(matches!(error, RopeError::Frequency { pair: 1, .. }), "{error}");
}

#[test]
fn a_table_of_nothing_or_of_more_than_memory_is_refused() {
    let error = RopeTable::new(&spec(glm4()), 0, &Device::Cpu).unwrap_err();
    assert!(matches!(error, RopeError::TableSize { length: 0, pairs: 32 }), "{error}");
    let wide = spec(RopeConfig { head_dim: 1 << 20, rotary_dim: 1 << 20, ..glm4() });
    let error = RopeTable::new(&wide, u32::MAX, &Device::Cpu).unwrap_err();
    assert!(matches!(error, RopeError::TableSize { .. }), "{error}");
}

#[test]
fn rope_03_a_position_beyond_the_table_is_refused_with_its_index() {
    let table = table(glm4(), 100, &Device::Cpu);
    let error = Positions::new(&table, &[0, 99, 100, 7]).unwrap_err();
    assert!(
        matches!(error, RopeError::Position { position: 100, index: 2, axis: 0, length: 100 }),
        "{error}"
    );
    says(&error, &["position 100", "index 2", "100 positions", "build the table with a length above 100"]);
    for (first, count) in [(99, 2), (u32::MAX, 2), (101, 0)] {
        let error = Positions::span(&table, first, count).unwrap_err();
        assert!(matches!(error, RopeError::Span { length: 100, .. }), "{error}");
    }
    assert_eq!(Positions::span(&table, 100, 0).unwrap().tokens(), 0);
}

#[test]
fn axes_that_do_not_fit_the_spec_are_refused() {
    let mrope = table(RopeConfig { axes: Axes::Sections(vec![8, 12, 12]), ..glm4() }, 10, &Device::Cpu);
    let error = Positions::with_axes(&mrope, &[&[1], &[2]]).unwrap_err();
    assert!(matches!(error, RopeError::AxisCount { expected: 3, found: 2 }), "{error}");
    let error = Positions::with_axes(&mrope, &[]).unwrap_err();
    assert!(matches!(error, RopeError::AxisCount { expected: 3, found: 0 }), "{error}");
    let error = Positions::with_axes(&mrope, &[&[1, 2], &[2, 3], &[4]]).unwrap_err();
    assert!(matches!(error, RopeError::AxisLength { axis: 2, expected: 2, found: 1 }), "{error}");
    let error = Positions::with_axes(&mrope, &[&[1], &[2], &[10]]).unwrap_err();
    assert!(matches!(error, RopeError::Position { axis: 2, .. }), "{error}");
    let two_blocks =
        table(RopeConfig { axes: Axes::TwoBlocks, pairing: Pairing::Halves, ..glm4() }, 10, &Device::Cpu);
    let error = Positions::new(&two_blocks, &[1]).unwrap_err();
    assert!(matches!(error, RopeError::AxisCount { expected: 2, found: 1 }), "{error}");
}

#[test]
fn data_that_is_not_what_its_shape_says_is_refused() {
    let mut buffer = DeviceBuffer::from_host_vec(&Device::Cpu, vec![0.0_f32; 24]).unwrap();
    for (tokens, heads, head_dim) in [(2, 3, 5), (1, 1, 1), (0, 3, 4), (u32::MAX, u32::MAX, u32::MAX)] {
        let error = HeadsMut::new(buffer.as_view_mut().unwrap(), tokens, heads, head_dim).unwrap_err();
        assert!(matches!(error, RopeError::DataLength { found: 24, .. }), "{error}");
    }
    assert!(HeadsMut::new(buffer.as_view_mut().unwrap(), 2, 3, 4).is_ok());
}

#[test]
fn strides_that_overlap_or_leave_the_data_are_refused() {
    let mut buffer = DeviceBuffer::from_host_vec(&Device::Cpu, vec![0.0_f32; 24]).unwrap();
    let mut strided = |tokens, heads, token_stride, head_stride| {
        let layout = Layout { tokens, heads, head_dim: 4, token_stride, head_stride };
        HeadsMut::strided(buffer.as_view_mut().unwrap(), layout).map(|_| ())
    };
    for (tokens, heads, token_stride, head_stride) in
        [(2, 3, 12, 3), (2, 3, 11, 4), (2, 2, 4, 4), (2, 1, 0, 4), (1, 2, 4, 3), (3, 2, 4, 11)]
    {
        let error = strided(tokens, heads, token_stride, head_stride).unwrap_err();
        assert!(matches!(error, RopeError::RowsOverlap { head_dim: 4, .. }), "{error}");
    }
    for (tokens, heads, token_stride, head_stride) in
        [(2, 3, 13, 4), (1, 7, 0, 4), (2, 1, u64::MAX, 4), (u32::MAX, 2, u64::MAX / 2, 4)]
    {
        let error = strided(tokens, heads, token_stride, head_stride).unwrap_err();
        assert!(matches!(error, RopeError::RowsOutside { found: 24, .. }), "{error}");
    }
    for (tokens, heads, token_stride, head_stride) in
        [(2, 3, 12, 4), (2, 3, 4, 8), (1, 1, 0, 0), (1, 6, 0, 4), (6, 1, 4, 0), (0, 9, 0, 0), (9, 0, 0, 0)]
    {
        strided(tokens, heads, token_stride, head_stride).unwrap();
    }
}

#[test]
fn operands_that_do_not_fit_leave_everything_as_it_was() {
    let short = table(glm4(), 10, &Device::Cpu);
    let long = table(glm4(), 20, &Device::Cpu);
    let mrope = table(RopeConfig { axes: Axes::Sections(vec![8, 12, 12]), ..glm4() }, 10, &Device::Cpu);
    let at = Positions::new(&long, &[3, 10]).unwrap();
    let values = vec![1.0_f32; 2 * 128];
    let mut q = DeviceBuffer::from_host_vec(&Device::Cpu, values.clone()).unwrap();
    let mut k = DeviceBuffer::from_host_vec(&Device::Cpu, values.clone()).unwrap();
    let mut call = |table: &RopeTable, k_shape: (u32, u32, u32)| {
        let (tokens, heads, head_dim) = k_shape;
        let q_heads = HeadsMut::new(q.as_view_mut().unwrap(), 2, 1, 128).unwrap();
        let k_heads = HeadsMut::new(k.as_view_mut().unwrap(), tokens, heads, head_dim).unwrap();
        let error = apply_position_embeddings(table, q_heads, k_heads, &at).unwrap_err();
        assert_eq!((q.to_host_vec().unwrap(), k.to_host_vec().unwrap()), (values.clone(), values.clone()));
        error
    };
    // The first position that the shorter table lacks.
    let error = call(&short, (2, 1, 128));
    assert!(matches!(error, RopeError::OtherTable { highest: 10, length: 10 }), "{error}");
    let error = call(&mrope, (2, 1, 128));
    assert!(matches!(error, RopeError::AxisCount { expected: 3, found: 1 }), "{error}");
    let error = call(&long, (2, 2, 64));
    assert!(matches!(error, RopeError::HeadDim { operand: "k", expected: 128, found: 64 }), "{error}");
    let error = call(&long, (1, 2, 128));
    assert!(matches!(error, RopeError::Tokens { operand: "k", expected: 2, found: 1 }), "{error}");
    let x = HeadsMut::new(q.as_view_mut().unwrap(), 1, 2, 128).unwrap();
    let error = apply_rope(&long, x, &at).unwrap_err();
    assert!(matches!(error, RopeError::Tokens { operand: "x", .. }), "{error}");
}
