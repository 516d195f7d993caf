//! What a decode step consists of, beside attention, recorded once and launched again: a drawn token is embedded by the next
//! launch, and the random numbers go on, since both are kept on the device.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use device_mem::{Device, DeviceBuffer, Graph, MemError, Transfers};
use half::bf16;
use kernels_nn::{
    Embedding, Linear, NnError, RmsNorm, Sampler, SamplerConfig, Weight, embed, linear, rms_norm, sample,
};

const VOCAB: usize = 320;
const HIDDEN: usize = 96;
const STEPS: usize = 12;
const CONFIG: SamplerConfig = SamplerConfig { temperature: 1.5, top_k: 100, top_p: 0.95, seed: 77 };

/// A model without layers, and what its steps compute in.
struct Steps {
    embedding: Embedding,
    norm: RmsNorm,
    output: Linear,
    x: DeviceBuffer<f32>,
    normed: DeviceBuffer<f32>,
    logits: DeviceBuffer<f32>,
    draws: DeviceBuffer<u32>,
    token: DeviceBuffer<u32>,
}

impl Steps {
    fn new(device: &Device) -> Steps {
        let matrix = |seed| {
            let values = parity::uniform::<bf16>(seed, VOCAB * HIDDEN);
            Weight::BF16(DeviceBuffer::from_host_vec(device, values).unwrap())
        };
        let zeroed = |len| DeviceBuffer::zeroed(device, len).unwrap();
        let draws = Sampler::new(CONFIG).unwrap().draw().to_vec();
        Steps {
            embedding: Embedding::new(matrix(1), VOCAB, HIDDEN).unwrap(),
            norm: RmsNorm::new(DeviceBuffer::from_host_vec(device, vec![0.3; HIDDEN]).unwrap(), 1e-5)
                .unwrap(),
            output: Linear::new(matrix(2), None, VOCAB, HIDDEN).unwrap(),
            x: zeroed(HIDDEN),
            normed: zeroed(HIDDEN),
            logits: zeroed(VOCAB),
            draws: DeviceBuffer::from_host_vec(device, draws).unwrap(),
            token: DeviceBuffer::from_host_vec(device, vec![5]).unwrap(),
        }
    }

    fn step(&mut self) -> Result<(), NnError> {
        embed(&self.embedding, self.token.as_view(), self.x.as_view_mut()?)?;
        rms_norm(self.x.as_view(), &self.norm, self.normed.as_view_mut()?)?;
        linear(self.normed.as_view(), &self.output, self.logits.as_view_mut()?)?;
        let (draws, token) = (self.draws.as_view_mut()?, self.token.as_view_mut()?);
        sample(self.logits.as_view(), VOCAB, &CONFIG, draws, token)?;
        Ok(())
    }

    /// The token, and the logits that it was drawn from.
    fn seen(&self) -> (u32, Vec<u32>) {
        let logits = self.logits.to_host_vec().unwrap();
        (self.token.to_host_vec().unwrap()[0], logits.iter().map(|logit| logit.to_bits()).collect())
    }
}

#[test]
fn launching_a_graph_gives_the_tokens_of_launching_its_kernels() {
    let mut replayed = 0;
    for device in parity::devices().unwrap() {
        let Device::Hip(hip) = &*device else { panic!("{device} is no HIP device") };
        // The first step loads the kernels, which has no place in a graph.
        let (mut one_by_one, mut steps) = (Steps::new(&device), Steps::new(&device));
        steps.step().unwrap();
        one_by_one.step().unwrap();
        let graph = match Graph::record(hip, || steps.step()) {
            Err(NnError::Mem(MemError::NoGraphs { .. })) => continue,
            graph => graph.unwrap(),
        };
        assert_eq!(steps.seen(), one_by_one.seen(), "recording does nothing");
        for _ in 0..STEPS {
            one_by_one.step().unwrap();
            let before = device.transfers();
            graph.launch().unwrap();
            let mut expected: Transfers = before;
            expected.graph_launches += 1;
            expected.launches += 4;
            assert_eq!(device.transfers(), expected);
            assert_eq!(steps.seen(), one_by_one.seen(), "on {device}");
        }
        replayed += 1;
    }
    assert!(replayed > 0, "no device has graphs");
}
