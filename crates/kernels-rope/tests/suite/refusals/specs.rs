//! Specs, tables, positions and block tables that are refused.

use device_mem::{Device, DeviceBuffer};
use kernels_rope::{
    Axes, BlockTable, HeadsMut, InvFreq, Layout, Pairing, Positions, RopeConfig, RopeError, RopeSpec,
    RopeTable, Scaling,
};

use super::{Refusal, error_of, refused};
use crate::cases::rotary::{self, plain};

/// GLM-4's rotary embedding.
pub(super) fn glm4() -> RopeConfig {
    plain(128, 64, 10_000.0, Pairing::Interleaved)
}

pub(super) fn table(config: RopeConfig, length: u32, device: &Device) -> Result<RopeTable, RopeError> {
    RopeTable::new(&RopeSpec::new(config)?, length, device)
}

pub(super) fn refusals() -> Vec<Refusal> {
    let mut list = widths_and_bases();
    list.extend(scalings());
    list.extend(tables_and_positions());
    list.extend(layouts());
    list.extend(block_tables());
    list
}

fn config(config: RopeConfig) -> impl Fn(&Device) -> Result<RopeError, String> {
    move |device| error_of(table(config.clone(), 64, device))
}

fn widths_and_bases() -> Vec<Refusal> {
    let mut list = Vec::new();
    for (rotary_dim, head_dim) in [(63, 128), (0, 128), (1, 128), (130, 128), (2, 0), (u32::MAX, u32::MAX)] {
        let run = config(RopeConfig { head_dim, rotary_dim, ..glm4() });
        refused!(list, format!("rotary-dim/{rotary_dim}-of-{head_dim}"), run, RopeError::RotaryDim { .. });
    }
    let blocks = config(RopeConfig { rotary_dim: 66, axes: Axes::TwoBlocks, ..glm4() });
    refused!(list, "two-blocks/66", blocks, RopeError::TwoBlocks { rotary_dim: 66 });
    for theta in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused!(
            list,
            format!("theta/{theta}"),
            config(RopeConfig { theta, ..glm4() }),
            RopeError::Theta { .. }
        );
    }
    for sections in [vec![], vec![8, 12, 11], vec![8, 12, 13], vec![u32::MAX; 3]] {
        let name = format!("sections/{sections:?}");
        let run = config(RopeConfig { axes: Axes::Sections(sections), ..glm4() });
        refused!(list, name, run, RopeError::Sections { expected: 32, .. });
    }
    let vanishing = RopeConfig { theta: 1e12, inv_freq: InvFreq::RoundedToF16, ..glm4() };
    refused!(list, "frequency/vanishing-in-f16", config(vanishing), RopeError::Frequency { .. });
    let growing = Scaling::Dynamic { factor: f64::MAX, trained_positions: 1 };
    let run = config(RopeConfig { scaling: growing, ..glm4() });
    refused!(list, "frequency/vanishing-with-length", run, RopeError::Frequency { pair: 1, .. });
    list
}

fn yarn() -> Scaling {
    rotary::yarn(4.0, 32_768)
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

fn llama3(low_freq_factor: f64, high_freq_factor: f64) -> Scaling {
    Scaling::Llama3 { factor: 8.0, low_freq_factor, high_freq_factor, trained_positions: 8192 }
}

fn scaled(scaling: Scaling) -> impl Fn(&Device) -> Result<RopeError, String> {
    config(RopeConfig { scaling, ..glm4() })
}

/// YaRN with one field changed.
macro_rules! yarn_with {
    ($field:ident = $value:expr) => {{
        let value = $value;
        let mut scaling = yarn();
        if let Scaling::Yarn { $field, .. } = &mut scaling {
            *$field = value;
        }
        scaled(scaling)
    }};
}

fn scalings() -> Vec<Refusal> {
    let mut list = Vec::new();
    for factor in [0.5, f64::NAN, f64::INFINITY] {
        let named = |kind: &str| format!("{kind}/factor/{factor}");
        let [linear, dynamic] =
            [Scaling::Linear { factor }, Scaling::Dynamic { factor, trained_positions: 8192 }];
        refused!(list, named("linear"), scaled(linear), RopeError::Scaling { parameter: "factor", .. });
        refused!(list, named("dynamic"), scaled(dynamic), RopeError::Scaling { parameter: "factor", .. });
        let yarn = yarn_with!(factor = factor);
        refused!(list, named("yarn"), yarn, RopeError::Scaling { kind: "yarn", parameter: "factor", .. });
    }
    let untrained = scaled(Scaling::Dynamic { factor: 2.0, trained_positions: 0 });
    refused!(
        list,
        "dynamic/untrained",
        untrained,
        RopeError::Scaling { parameter: "original_max_position_embeddings", .. }
    );
    for (low, high) in [(0.0, 4.0), (-1.0, 4.0), (f64::NAN, 4.0)] {
        let run = scaled(llama3(low, high));
        refused!(
            list,
            format!("llama3/low/{low}"),
            run,
            RopeError::Scaling { parameter: "low_freq_factor", .. }
        );
    }
    for (low, high) in [(4.0, 4.0), (1.0, f64::NAN), (1.0, f64::INFINITY)] {
        let run = scaled(llama3(low, high));
        refused!(
            list,
            format!("llama3/high/{high}"),
            run,
            RopeError::Scaling { parameter: "high_freq_factor", .. }
        );
    }
    let untrained = yarn_with!(trained_positions = 0);
    refused!(
        list,
        "yarn/untrained",
        untrained,
        RopeError::Scaling { parameter: "original_max_position_embeddings", .. }
    );
    for beta in [-1.0, 0.0, f64::NAN] {
        let run = yarn_with!(beta_slow = beta);
        refused!(
            list,
            format!("yarn/beta-slow/{beta}"),
            run,
            RopeError::Scaling { parameter: "beta_slow", .. }
        );
    }
    for beta in [1.0, 0.5, f64::INFINITY] {
        let run = yarn_with!(beta_fast = beta);
        refused!(
            list,
            format!("yarn/beta-fast/{beta}"),
            run,
            RopeError::Scaling { parameter: "beta_fast", .. }
        );
    }
    for factor in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let run = yarn_with!(attention_factor = Some(factor));
        let name = format!("yarn/attention-factor/{factor}");
        refused!(list, name, run, RopeError::Scaling { parameter: "attention_factor", .. });
    }
    let base = config(RopeConfig { scaling: yarn(), theta: 1.0, ..glm4() });
    refused!(list, "yarn/base-1", base, RopeError::Scaling { parameter: "rope_theta", .. });
    list.extend(longropes());
    list
}

fn longropes() -> Vec<Refusal> {
    let mut list = Vec::new();
    let ones = || vec![1.0; 32];
    let untrained = scaled(longrope(ones(), ones(), 1));
    refused!(
        list,
        "longrope/trained-1",
        untrained,
        RopeError::Scaling { parameter: "original_max_position_embeddings", .. }
    );
    let short = scaled(longrope(vec![1.0; 31], ones(), 4096));
    refused!(
        list,
        "longrope/short-of-31",
        short,
        RopeError::FactorCount { list: "short_factor", expected: 32, found: 31 }
    );
    let long = scaled(longrope(ones(), vec![1.0; 33], 4096));
    refused!(
        list,
        "longrope/long-of-33",
        long,
        RopeError::FactorCount { list: "long_factor", expected: 32, found: 33 }
    );
    for factor in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut factors = ones();
        factors[5] = factor;
        let run = scaled(longrope(ones(), factors, 4096));
        let name = format!("longrope/divisor/{factor}");
        refused!(list, name, run, RopeError::Factor { list: "long_factor", index: 5, .. });
    }
    list
}

fn sections() -> RopeConfig {
    RopeConfig { axes: Axes::Sections(vec![8, 12, 12]), ..glm4() }
}

/// What positions a table of `length` positions is asked for.
fn positions(
    config: RopeConfig,
    length: u32,
    axes: &'static [&'static [u32]],
) -> impl Fn(&Device) -> Result<RopeError, String> {
    move |device| {
        error_of(table(config.clone(), length, device).and_then(|table| Positions::with_axes(&table, axes)))
    }
}

fn tables_and_positions() -> Vec<Refusal> {
    let mut list = Vec::new();
    let nothing = |device: &Device| error_of(table(glm4(), 0, device));
    refused!(list, "table/of-nothing", nothing, RopeError::TableSize { length: 0, pairs: 32 });
    let vast = |device: &Device| {
        error_of(table(RopeConfig { head_dim: 1 << 20, rotary_dim: 1 << 20, ..glm4() }, u32::MAX, device))
    };
    refused!(list, "table/beyond-memory", vast, RopeError::TableSize { .. });
    let beyond = positions(glm4(), 100, &[&[99, 100, 7]]);
    refused!(
        list,
        "position/second-of-three",
        beyond,
        RopeError::Position { position: 100, index: 1, axis: 0, length: 100 }
    );
    let last_axis = positions(sections(), 10, &[&[1], &[2], &[10]]);
    refused!(list, "position/of-the-third-axis", last_axis, RopeError::Position { axis: 2, .. });
    for (first, count) in [(99, 2), (u32::MAX, 2), (101, 0)] {
        let run = move |device: &Device| {
            error_of(table(glm4(), 100, device).and_then(|table| Positions::span(&table, first, count)))
        };
        refused!(list, format!("span/{count}-from-{first}"), run, RopeError::Span { length: 100, .. });
    }
    let two = positions(sections(), 10, &[&[1], &[2]]);
    refused!(list, "axis-count/two-of-three", two, RopeError::AxisCount { expected: 3, found: 2 });
    refused!(
        list,
        "axis-count/none",
        positions(sections(), 10, &[]),
        RopeError::AxisCount { expected: 3, found: 0 }
    );
    let short = positions(sections(), 10, &[&[1, 2], &[2, 3], &[4]]);
    refused!(list, "axis-length/shorter", short, RopeError::AxisLength { axis: 2, expected: 2, found: 1 });
    let one_of_two = |device: &Device| {
        let blocks = RopeConfig { axes: Axes::TwoBlocks, pairing: Pairing::Halves, ..glm4() };
        error_of(table(blocks, 10, device).and_then(|table| Positions::new(&table, &[1])))
    };
    refused!(list, "axis-count/one-of-two", one_of_two, RopeError::AxisCount { expected: 2, found: 1 });
    list
}

/// Gives 24 elements to a constructor.
fn of_24(
    run: impl Fn(&mut DeviceBuffer<f32>) -> Result<(), RopeError>,
) -> impl Fn(&Device) -> Result<RopeError, String> {
    move |device| {
        let mut buffer = DeviceBuffer::from_host_vec(device, vec![0.0_f32; 24]).unwrap();
        error_of(run(&mut buffer))
    }
}

fn layouts() -> Vec<Refusal> {
    let mut list = Vec::new();
    for (tokens, heads, head_dim) in [(2, 3, 5), (1, 1, 1), (0, 3, 4), (u32::MAX, u32::MAX, u32::MAX)] {
        let run =
            of_24(move |buffer| HeadsMut::new(buffer.as_view_mut()?, tokens, heads, head_dim).map(|_| ()));
        let name = format!("data-length/{tokens}x{heads}x{head_dim}");
        refused!(list, name, run, RopeError::DataLength { found: 24, .. });
    }
    let strided = |tokens, heads, token_stride, head_stride| {
        let layout = Layout { tokens, heads, head_dim: 4, token_stride, head_stride };
        of_24(move |buffer| HeadsMut::strided(buffer.as_view_mut()?, layout).map(|_| ()))
    };
    for (tokens, heads, token_stride, head_stride) in
        [(2, 3, 12, 3), (2, 3, 11, 4), (2, 2, 4, 4), (2, 1, 0, 4), (1, 2, 4, 3), (3, 2, 4, 11)]
    {
        let name = format!("overlap/{tokens}by{token_stride}-{heads}by{head_stride}");
        let run = strided(tokens, heads, token_stride, head_stride);
        refused!(list, name, run, RopeError::RowsOverlap { head_dim: 4, .. });
    }
    for (tokens, heads, token_stride, head_stride) in
        [(2, 3, 13, 4), (1, 7, 0, 4), (2, 1, u64::MAX, 4), (u32::MAX, 2, u64::MAX / 2, 4)]
    {
        let name = format!("outside/{tokens}by{token_stride}-{heads}by{head_stride}");
        let run = strided(tokens, heads, token_stride, head_stride);
        refused!(list, name, run, RopeError::RowsOutside { found: 24, .. });
    }
    list
}

/// Assigns blocks to sequence 1 of two, of which the first has block 5 of 8.
fn assigned(sequence: u32, blocks: &'static [u32]) -> impl Fn(&Device) -> Result<RopeError, String> {
    move |device| {
        let mut table = BlockTable::new(device, 8, 4, 2, 3).unwrap();
        table.assign(0, &[5]).unwrap();
        let error = error_of(table.assign(sequence, blocks))?;
        let entries = table.as_view().to_host_vec().unwrap();
        let unchanged = entries == [5, u32::MAX, u32::MAX, u32::MAX, u32::MAX, u32::MAX];
        if unchanged { Ok(error) } else { Err(format!("the table became {entries:?}")) }
    }
}

fn block_tables() -> Vec<Refusal> {
    let mut list = Vec::new();
    for size in [0, 3, 12] {
        let run = move |device: &Device| error_of(BlockTable::new(device, 8, size, 2, 3));
        refused!(list, format!("block-table/blocks-of-{size}"), run, RopeError::BlockSize { .. });
    }
    let span = |device: &Device| error_of(BlockTable::new(device, 8, 1 << 31, 2, 2));
    refused!(list, "block-table/capacity-beyond-u32", span, RopeError::TableSpan { .. });
    refused!(
        list,
        "block-table/sequence",
        assigned(2, &[1]),
        RopeError::Sequence { sequence: 2, sequences: 2 }
    );
    refused!(
        list,
        "block-table/four-of-three",
        assigned(1, &[0, 1, 2, 3]),
        RopeError::BlockCount { found: 4, most: 3 }
    );
    let absent = assigned(1, &[1, 8]);
    refused!(list, "block-table/absent", absent, RopeError::Block { block: 8, index: 1, blocks: 8 });
    let anothers = assigned(1, &[1, 5]);
    refused!(list, "block-table/anothers", anothers, RopeError::BlockTaken { block: 5, index: 1 });
    refused!(list, "block-table/twice", assigned(1, &[1, 1]), RopeError::BlockTaken { block: 1, index: 1 });
    list
}

/// What stands right beside what is refused.
#[test]
fn rows_that_nest_and_spans_that_end_with_the_table_are_taken() {
    for (tokens, heads, token_stride, head_stride) in
        [(2, 3, 12, 4), (2, 3, 4, 8), (1, 1, 0, 0), (1, 6, 0, 4), (6, 1, 4, 0), (0, 9, 0, 0), (9, 0, 0, 0)]
    {
        let mut buffer = DeviceBuffer::from_host_vec(&Device::Cpu, vec![0.0_f32; 24]).unwrap();
        let layout = Layout { tokens, heads, head_dim: 4, token_stride, head_stride };
        HeadsMut::strided(buffer.as_view_mut().unwrap(), layout).unwrap();
    }
    let table = table(glm4(), 100, &Device::Cpu).unwrap();
    for (first, count) in [(100, 0), (99, 1), (0, 100)] {
        assert_eq!(Positions::span(&table, first, count).unwrap().tokens(), count);
    }
}
