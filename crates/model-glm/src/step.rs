//! One token of one sequence through all layers: five launches a layer (one more for each change of type among the weights of
//! queries, keys and values), and four around them, of which nothing but what
//! device memory holds changes from token to token.

use attention::{KvCache, NewTokens, decode_attention};
use device_mem::{Device, Graph, MemError, View, ViewMut};
use kernels_nn::{Branch, Residual, RmsNorm, advance, embed, linear, norm_linear, norm_swiglu};
use kernels_rope::RopeTable;

use crate::GlmError;
use crate::arena::Arena;
use crate::draw::Draw;
use crate::layer::Layer;
use crate::model::{GlmModel, TokenId};

/// The residual stream of a token, and the branch that is yet to be added to it.
struct Stream<'a> {
    /// `[hidden]`
    x: ViewMut<'a, f32>,
    /// `[hidden]`: where the next sum goes.
    spare: ViewMut<'a, f32>,
    /// `[hidden]`
    branch: ViewMut<'a, f32>,
    /// Whether the branch holds what is to be added.
    is_open: bool,
}

impl Stream<'_> {
    /// The rows that the next launch norms, after it has added the branch, normed by `branch_norm` where there is one.
    fn rows<'b>(&'b mut self, branch_norm: Option<&'b RmsNorm>) -> Residual<'b> {
        let Stream { x, spare, branch, is_open } = self;
        let branch =
            is_open.then(|| Branch { rows: branch.as_view(), norm: branch_norm, sum: spare.reborrow() });
        Residual { x: x.as_view(), branch }
    }

    /// The branch was added.
    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            std::mem::swap(&mut self.x, &mut self.spare);
        }
    }

    /// Where a new branch is written.
    fn open(&mut self) -> ViewMut<'_, f32> {
        self.is_open = true;
        self.branch.reborrow()
    }
}

/// How the steps of one answer are given to the device.
#[derive(Debug, Default)]
pub(crate) enum Replay {
    /// The next one is the first: its kernels are loaded.
    #[default]
    First,
    /// The next one is recorded.
    Record,
    /// All further ones are one call.
    Graph(Graph),
    /// Launch by launch: the device has no graphs, or is traced.
    Eager,
}

impl GlmModel {
    /// Runs the token that was drawn last, and draws the one that follows it. Nothing is allocated, and nothing crosses the
    /// bus but the token, to the host.
    ///
    /// On a HIP device with graphs the first step of an answer is launched kernel by kernel, the second is recorded, and
    /// it and all further ones are one launch of the graph, unless someone traces the launches. What changes from step to
    /// step is in device memory: the token, the sequence's length, which is its position too, the cache, and the step of the
    /// random numbers.
    pub(crate) fn decode(&self, cache: &mut KvCache, draw: &mut Draw) -> Result<TokenId, GlmError> {
        // Finds a full cache and the end of the table before anything runs.
        self.positions(cache, 0, 1)?;
        let arena = &mut *self.arena();
        match (&draw.replay, &self.device) {
            (Replay::Graph(graph), _) => {
                graph.launch()?;
                cache.replayed()?;
            }
            (Replay::Record, Device::Hip(hip)) => {
                match Graph::record(hip, || self.step(arena, cache, draw)) {
                    Ok(graph) => {
                        graph.launch()?;
                        draw.replay = Replay::Graph(graph);
                    }
                    Err(GlmError::Mem(MemError::NoGraphs { .. })) => {
                        draw.replay = Replay::Eager;
                        self.step(arena, cache, draw)?;
                    }
                    Err(error) => return Err(error),
                }
            }
            (Replay::First, Device::Hip(hip)) => {
                self.step(arena, cache, draw)?;
                draw.replay = if hip.is_traced() { Replay::Eager } else { Replay::Record };
            }
            _ => self.in_pool(|| self.step(arena, cache, draw))?,
        }
        let token = draw.token(&arena.logits)?;
        self.expect_whole()?;
        cache.commit(1)?;
        Ok(token)
    }

    /// Everything that is launched for a token.
    fn step(&self, arena: &mut Arena, cache: &mut KvCache, draw: &mut Draw) -> Result<(), GlmError> {
        let Arena { activations, spare, logits, .. } = arena;
        let rows = activations.rows(1)?;
        let mut stream =
            Stream { x: rows.x, spare: spare.as_view_mut()?, branch: rows.branch, is_open: false };
        let mut buffers = StepBuffers {
            q: rows.q,
            k: rows.k,
            v: rows.v,
            attended: rows.attended,
            activated: rows.activated,
        };
        embed(&self.embedding, draw.last(), stream.x.reborrow())?;
        let mut mlp_norm = None;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.step(index, &mut stream, mlp_norm, &mut buffers, &self.rope, draw.length(), cache)?;
            mlp_norm = layer.post_mlp_norm.as_ref();
        }
        norm_linear(stream.rows(mlp_norm), &self.final_norm, [(&self.output, logits.as_view_mut()?)])?;
        draw.draw(logits)?;
        let (length, one) = draw.lengthen()?;
        advance(length, one)?;
        Ok(())
    }
}

/// What a layer's step computes in, each of one token.
struct StepBuffers<'a> {
    q: ViewMut<'a, f32>,
    k: ViewMut<'a, f32>,
    v: ViewMut<'a, f32>,
    attended: ViewMut<'a, f32>,
    activated: ViewMut<'a, f32>,
}

impl Layer {
    /// What [`Layer::forward`] computes, for one token at position `length` `[1]`, in five launches or more. `before_norm` is the norm of
    /// the branch that the layer before has left open; this one leaves that of its MLP.
    #[expect(clippy::too_many_arguments, reason = "a layer's parameters, its buffers and its place")]
    fn step(
        &self,
        index: usize,
        stream: &mut Stream<'_>,
        before_norm: Option<&RmsNorm>,
        buffers: &mut StepBuffers<'_>,
        rope: &RopeTable,
        length: View<'_, u32>,
        cache: &mut KvCache,
    ) -> Result<(), GlmError> {
        let StepBuffers { q, k, v, attended, activated } = buffers;
        let projections = [(&self.q, q.reborrow()), (&self.k, k.reborrow()), (&self.v, v.reborrow())];
        norm_linear(stream.rows(before_norm), &self.input_norm, projections)?;
        stream.close();

        let tokens = NewTokens::new(q.as_view(), k.as_view(), v.as_view(), 1, cache.shape())?;
        let mut cache = cache.layer(index)?;
        decode_attention(tokens, None, rope, length, length, &mut cache, attended.reborrow())?;
        linear(attended.as_view(), &self.out, stream.open())?;

        let attention_norm = self.post_attention_norm.as_ref();
        norm_swiglu(stream.rows(attention_norm), &self.mlp_norm, &self.gate_up, activated.reborrow())?;
        stream.close();
        linear(activated.as_view(), &self.down, stream.open())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use attention::KvDType;
    use kernels_nn::{BlockType, Sampler, SamplerConfig};
    use parity::golden_dir;

    use super::*;
    use crate::gguf::{GgufWriter, Stored, TensorSpec};
    use crate::{GlmConfig, GlmWeights, LoadOptions};

    const PROMPT: [u32; 5] = [11, 50, 7, 7, 63];

    /// Eager, recorded and replayed.
    const STEPS: usize = 5;

    fn golden(checkpoint: &str) -> (GlmConfig, GlmWeights) {
        let folder = golden_dir().join(checkpoint);
        (GlmConfig::open(&folder).unwrap(), GlmWeights::open(&folder).unwrap())
    }

    /// A GGUF file of made-up weights in blocks, of which `v` and `down` have another format than the rest.
    fn quantised(most: BlockType, some: BlockType) -> (GlmConfig, GlmWeights) {
        let config = GlmConfig::from_json(
            r#"{"model_type": "glm", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 256, "vocab_size": 64,
                "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "partial_rotary_factor": 0.5,
                "rope_theta": 20000.0}"#,
        )
        .unwrap();
        let layer =
            [("attn_norm", 1), ("attn_q", 256), ("attn_k", 128), ("attn_v", 128), ("attn_output", 256)];
        let layer = layer.into_iter().chain([("ffn_norm", 1), ("ffn_up", 512), ("ffn_down", 256)]);
        let layers = [0, 1]
            .into_iter()
            .flat_map(|index| layer.clone().map(move |(name, rows)| (format!("blk.{index}.{name}"), rows)));
        let around = [("token_embd", 64), ("output", 64), ("output_norm", 1)];
        let around = around.into_iter().map(|(name, rows)| (name.to_owned(), rows));
        let specs = Vec::from_iter(layers.chain(around).map(|(name, rows)| {
            let block = if name.contains("_v") || name.contains("_down") { some } else { most };
            let stored = if rows == 1 { Stored::F32 } else { Stored::Blocks(block) };
            TensorSpec { name: format!("{name}.weight"), rows, columns: 256, vector: rows == 1, stored }
        }));
        let mut file = GgufWriter::new(Vec::new(), &[], &specs).unwrap();
        for (seed, spec) in specs.iter().enumerate() {
            let values = parity::uniform::<f32>(seed as u64, spec.rows * spec.columns);
            if let Stored::Blocks(block) = spec.stored {
                let small = Vec::from_iter(values.iter().map(|value| value / 8.0));
                let mut bytes = vec![0; usize::try_from(spec.bytes()).unwrap()];
                block.quantize(&small, &mut bytes).unwrap();
                file.write(&bytes).unwrap();
            } else {
                let around_one = values.iter().flat_map(|value| (1.0 + value / 4.0).to_le_bytes());
                file.write(&Vec::from_iter(around_one)).unwrap();
            }
        }
        (config, GlmWeights::from_bytes(file.finish().unwrap()).unwrap())
    }

    #[test]
    fn a_step_gives_the_logits_of_a_pass_bit_for_bit() {
        for checkpoint in ["glm4", "glm", "chatglm_orig"] {
            a_step_equals_a_pass(checkpoint, || golden(checkpoint));
        }
    }

    #[test]
    fn a_step_of_blocks_gives_the_logits_of_a_pass_bit_for_bit() {
        use BlockType::{Q4_0, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};
        for (most, some) in [(Q4_K, Q6_K), (Q8_0, Q8_0), (Q4_0, Q5_0), (Q5_K, Q5_1)] {
            a_step_equals_a_pass(&format!("{most} and {some}"), || quantised(most, some));
        }
    }

    fn a_step_equals_a_pass(what: &str, made: impl Fn() -> (GlmConfig, GlmWeights)) {
        for device in parity::cpu_and_devices().unwrap() {
            let (config, weights) = made();
            let options = LoadOptions { context: Some(64), ..LoadOptions::default() };
            let model = GlmModel::load(config, &weights, &device, options).unwrap();
            let [mut stepped, mut passed] = [(); 2].map(|()| model.new_cache(32, KvDType::BF16).unwrap());
            let sampler =
                Sampler::new(SamplerConfig { temperature: 1.5, ..SamplerConfig::default() }).unwrap();
            let mut draw = Draw::new(&device, sampler, 5).unwrap();
            let mut token = model.prefill(&mut stepped, &PROMPT, &mut draw).unwrap();
            model.forward(&PROMPT, &mut passed).unwrap();
            for step in 0..STEPS {
                let next = model.decode(&mut stepped, &mut draw).unwrap();
                let logits = model.forward(&[token], &mut passed).unwrap().to_host_vec().unwrap();
                let found = model.arena().logits.to_host_vec().unwrap();
                let bits = |logits: &[f32]| Vec::from_iter(logits.iter().map(|logit| logit.to_bits()));
                assert_eq!(bits(&found), bits(&logits), "step {step} of {what} on {device}");
                assert_eq!(draw.length.to_host_vec().unwrap(), [stepped.len()]);
                token = next;
            }
            let replays = device.transfers().graph_launches;
            assert_eq!(replays > 0, matches!(draw.replay, Replay::Graph(_)), "{device}");
        }
    }
}
