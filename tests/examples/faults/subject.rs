//! What the sweep puts faults under: a model is opened, loaded, asked and dropped, as a program with `--device auto` does it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use attention::{KvCache, KvDType};
use device_mem::doctor::{self, Status};
use device_mem::{Device, DeviceBuffer, RanOn};
use hip_ffi::HipApi;
use hip_ffi::faults::{self, Fault, Met};
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::{
    GenerateOptions, GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions, Next, TokenId, generate,
    generate_with_failover,
};
use parity::{golden_dir, host_hip, host_hip_with_graphs};

use crate::sites::Phase;

const CHECKPOINT: &str = "glm4";
const PROMPT: [TokenId; 5] = [11, 50, 7, 7, 63];
/// The first from the prompt, one launch by launch, one recorded, two replayed.
const MAX_TOKENS: usize = 5;
const CONTEXT: u32 = 32;
/// The prompt in one piece, and no more memory than that needs: a lost device keeps it to the end of the process.
const CHUNK: Option<NonZeroU32> = NonZeroU32::new(8);

pub(crate) struct Subject {
    config: GlmConfig,
    weights: GlmWeights,
    api: HipApi,
    /// What the CPU answers after each beginning of an answer.
    on_cpu: RefCell<BTreeMap<Vec<TokenId>, Vec<TokenId>>>,
}

/// An answer, where it came from, and the calls that it made.
pub(crate) struct Answer {
    pub(crate) tokens: Vec<TokenId>,
    /// As the callback saw them.
    pub(crate) told: Vec<TokenId>,
    pub(crate) ran_on: RanOn,
    /// Tokens of the device, where it failed.
    pub(crate) failed_after: Option<usize>,
    pub(crate) met: Met,
    /// Calls made when each phase ended.
    pub(crate) ends: Vec<(Phase, usize)>,
}

impl Subject {
    pub(crate) fn new() -> Result<Subject> {
        let folder = golden_dir().join(CHECKPOINT);
        Ok(Subject {
            config: GlmConfig::open(&folder)?,
            weights: GlmWeights::open(&folder)?,
            api: faults::around(host_hip_with_graphs()),
            on_cpu: RefCell::default(),
        })
    }

    /// Looks at the devices under a fault.
    pub(crate) fn examine(&self, fault: Option<Fault>) -> Result<Met> {
        faults::write_off();
        faults::plan(fault);
        let checks = doctor::devices(&self.api);
        let met = faults::met();
        let failed = checks.iter().any(|check| check.status == Status::Fail);
        ensure!(!checks.is_empty(), "the doctor says nothing");
        ensure!(fault.is_some() || !failed, "the doctor finds a gap: {checks:?}");
        Ok(met)
    }

    /// Answers under a fault.
    pub(crate) fn answer(&self, fault: Option<Fault>, deadline: Duration) -> Result<Answer> {
        faults::write_off();
        faults::plan(fault);
        let mut ends = Vec::new();
        let mut end = |phase| ends.push((phase, faults::met().calls.len()));
        let mut device = match Device::from_api(self.api.clone(), 0) {
            Err(error) if error.class().is_some() => Device::Cpu,
            device => device?,
        };
        if let Device::Hip(hip) = &device {
            hip.set_deadline(deadline);
        }
        end(Phase::Open);
        match self.buffers(&device) {
            Err(GlmError::Mem(error)) if error.class().is_some() => device = Device::Cpu,
            done => done?,
        }
        end(Phase::Memory);
        let (mut model, mut cache) = match self.load(&device) {
            Err(error) if error.is_of_device() => self.load(&Device::Cpu)?,
            loaded => loaded?,
        };
        drop(device);
        end(Phase::Load);
        let mut told = Vec::new();
        let on_token = |token| {
            if told.is_empty() {
                end(Phase::Prefill);
            }
            told.push(token);
            Ok(Next::Continue)
        };
        let place = (&mut model, &mut cache);
        let generated = generate_with_failover(place, &[], &PROMPT, options(0)?, on_token, |error, _| {
            assert!(error.is_of_device(), "{error}");
            self.load(&Device::Cpu)
        })?;
        end(Phase::Decode);
        drop((model, cache));
        end(Phase::Teardown);
        let (tokens, ran_on, failed_after) = (generated.tokens, generated.ran_on, generated.failed_after);
        Ok(Answer { tokens, told, ran_on, failed_after, met: faults::met(), ends })
    }

    /// The answer of a device that has no graphs and meets no fault.
    pub(crate) fn without_graphs(&self) -> Result<Vec<TokenId>> {
        let device = Device::from_api(host_hip(), 0)?;
        let (model, mut cache) = self.load(&device)?;
        Ok(generate(&model, &mut cache, &PROMPT, options(0)?, |_| Ok(Next::Continue))?.tokens)
    }

    /// Elements go up, are copied, filled and read, before a model is.
    fn buffers(&self, device: &Device) -> Result<(), GlmError> {
        let values = [1.0_f32, -2.0, 3.5];
        let buffer = DeviceBuffer::from_host_vec(device, values.to_vec())?;
        let read = buffer.try_clone()?.to_host_vec()?;
        let zeros = DeviceBuffer::<u32>::zeroed(device, 2)?.to_host_vec()?;
        device.synchronize()?;
        assert!(read == values && zeros == [0, 0], "wrong elements came back: {read:?} {zeros:?}");
        Ok(())
    }

    fn load(&self, device: &Device) -> Result<(GlmModel, KvCache), GlmError> {
        let options = LoadOptions { context: Some(CONTEXT), chunk: CHUNK, ..LoadOptions::default() };
        let model = GlmModel::load(self.config.clone(), &self.weights, device, options)?;
        let cache = model.new_cache(CONTEXT, KvDType::F32)?;
        Ok((model, cache))
    }

    /// How the CPU ends an answer that begins so.
    pub(crate) fn on_cpu(&self, answered: &[TokenId]) -> Result<Vec<TokenId>> {
        if let Some(known) = self.on_cpu.borrow().get(answered) {
            return Ok(known.clone());
        }
        let (model, mut cache) = self.load(&Device::Cpu)?;
        let ids = [&PROMPT, answered].concat();
        let options = options(answered.len())?;
        let tokens = generate(&model, &mut cache, &ids, options, |_| Ok(Next::Continue))?.tokens;
        self.on_cpu.borrow_mut().insert(answered.to_vec(), tokens.clone());
        Ok(tokens)
    }
}

/// Options of an answer of which so many tokens are there.
fn options(answered: usize) -> Result<GenerateOptions<'static>, GlmError> {
    let config = SamplerConfig { temperature: 1.0, seed: 3, ..SamplerConfig::default() };
    let sampler = Sampler::new(config)?.at_step(answered as u64);
    Ok(GenerateOptions { max_tokens: MAX_TOKENS - answered, sampler, stop_ids: &[] })
}

impl Answer {
    /// The phase in which a call was made, counted from 1.
    pub(crate) fn phase_of(&self, call: usize) -> Result<Phase> {
        match self.ends.iter().find(|(_, end)| call <= *end) {
            Some((phase, _)) => Ok(*phase),
            None => bail!("call {call} is beyond {:?}", self.ends),
        }
    }
}
