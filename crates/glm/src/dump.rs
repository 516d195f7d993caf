use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::{CacheSize, GlmConfig, GlmError, GlmModel, GlmWeights, Observer, Sequence};
use safetensors::tensor::{Dtype, View};

use crate::args::{DumpArgs, Ids};
use crate::place;

pub(crate) fn execute(args: &DumpArgs) -> Result<()> {
    if args.layers && args.ids.len() > 1 {
        bail!("--layers shows one sequence; give one --ids");
    }
    let config = GlmConfig::open(&args.model)?;
    let weights = GlmWeights::open(&args.model)?;
    let context = positions_needed(args)?;
    let cache = |Ids(ids): &Ids| Ok(CacheSize { capacity: capacity(ids, args)?, dtype: args.kv_dtype });
    let caches = args.ids.iter().map(cache).collect::<Result<Vec<_>>>()?;
    let (loaded, ()) = place::load(config, &weights, args.device, context, &caches, |_| Ok(()))?;
    let mut dump = Dump::default();
    match args.ids.as_slice() {
        [Ids(ids)] => dump_one(&loaded.model, args, ids, &mut dump)?,
        _ => dump_batch(&loaded.model, args, &mut dump)?,
    }
    let count = dump.tensors.len();
    safetensors::serialize_to_file(dump.tensors, None, &args.out)
        .with_context(|| format!("{} cannot be written", args.out.display()))?;
    eprintln!("{count} tensors in {}; {}", args.out.display(), loaded.where_it_ran());
    Ok(())
}

/// The positions that the longest sequence reaches.
fn positions_needed(args: &DumpArgs) -> Result<u32> {
    let longest = args.ids.iter().map(|Ids(ids)| ids.len()).max().unwrap_or(0);
    let tokens = u32::try_from(longest + args.greedy).context("more tokens than a position can count")?;
    args.first_position.checked_add(tokens).context("--first-position is beyond what a position can count")
}

fn dump_one(model: &GlmModel, args: &DumpArgs, ids: &[u32], dump: &mut Dump) -> Result<()> {
    let mut cache = model.new_cache(capacity(ids, args)?, args.kv_dtype)?;
    let sequence = Sequence { tokens: ids, cache: &mut cache, position_offset: args.first_position };
    let observer = args.layers.then_some(&mut *dump as &mut dyn Observer);
    let logits = model.forward_all(sequence, observer)?.to_host_vec()?;
    let vocab = model.config().vocab_size;
    let last = logits.len() - vocab;
    let rest = continue_greedily(args, logits.get(last..).unwrap_or_default(), |token| {
        let sequence = Sequence { tokens: &[token], cache: &mut cache, position_offset: args.first_position };
        model.forward_batch(&mut [sequence])?.to_host_vec()
    })?;
    dump.add("logits", &[ids.len(), vocab], logits);
    dump.add_greedy("", vocab, rest);
    Ok(())
}

fn dump_batch(model: &GlmModel, args: &DumpArgs, dump: &mut Dump) -> Result<()> {
    let cache = |Ids(ids): &Ids| Ok(model.new_cache(capacity(ids, args)?, args.kv_dtype)?);
    let mut caches = args.ids.iter().map(cache).collect::<Result<Vec<_>>>()?;
    let position_offset = args.first_position;
    let sequences = args.ids.iter().zip(&mut caches);
    let mut batch: Vec<Sequence<'_>> =
        sequences.map(|(Ids(tokens), cache)| Sequence { tokens, cache, position_offset }).collect();
    let logits = model.forward_batch(&mut batch)?.to_host_vec()?;
    let vocab = model.config().vocab_size;
    for (index, (row, cache)) in logits.chunks_exact(vocab).zip(&mut caches).enumerate() {
        let rest = continue_greedily(args, row, |token| {
            let sequence = Sequence { tokens: &[token], cache: &mut *cache, position_offset };
            model.forward_batch(&mut [sequence])?.to_host_vec()
        })?;
        dump.add(&format!("s{index}.logits"), &[1, vocab], row.to_vec());
        dump.add_greedy(&format!("s{index}."), vocab, rest);
    }
    Ok(())
}

fn capacity(ids: &[u32], args: &DumpArgs) -> Result<u32> {
    u32::try_from(ids.len() + args.greedy).context("more tokens than a position can count")
}

/// The most likely tokens after `logits`, and the logits that each was chosen from.
fn continue_greedily(
    args: &DumpArgs,
    logits: &[f32],
    mut next: impl FnMut(u32) -> Result<Vec<f32>, GlmError>,
) -> Result<(Vec<u32>, Vec<f32>)> {
    let mut sampler = Sampler::new(SamplerConfig::default()).map_err(GlmError::from)?;
    let (mut tokens, mut rows, mut logits) = (Vec::new(), Vec::new(), logits.to_vec());
    for step in 1..=args.greedy {
        let token = sampler.sample(&logits).map_err(GlmError::from)?;
        tokens.push(token);
        rows.extend_from_slice(&logits);
        if step < args.greedy {
            logits = next(token)?;
        }
    }
    Ok((tokens, rows))
}

/// Tensors to write, by name.
#[derive(Default)]
struct Dump {
    tensors: BTreeMap<String, Stored>,
}

struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Dump {
    fn add(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.insert(name.to_owned(), Stored { dtype: Dtype::F32, shape: shape.to_vec(), bytes });
    }

    fn add_greedy(&mut self, prefix: &str, vocab: usize, (tokens, rows): (Vec<u32>, Vec<f32>)) {
        if tokens.is_empty() {
            return;
        }
        let bytes = tokens.iter().flat_map(|&token| i64::from(token).to_le_bytes()).collect();
        let stored = Stored { dtype: Dtype::I64, shape: vec![tokens.len()], bytes };
        self.tensors.insert(format!("{prefix}greedy"), stored);
        self.add(&format!("{prefix}greedy_logits"), &[tokens.len(), vocab], rows);
    }
}

impl Observer for Dump {
    fn tensor(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.add(name, shape, values);
    }
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
