//! Where a model is: loaded in this process, on the device that was asked for or, where `auto` may, on the CPU.

use anyhow::{Context, Result};
use attention::KvCache;
use device_mem::{Device, Failure, Opened};
use model_glm::{
    CacheSize, GenerateOptions, Generated, GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions,
    MemoryBudget, Next, TokenId, generate, generate_with_failover,
};
use serde_json::{Value, json};

use crate::args::DeviceArgs;
use crate::device;
use crate::{selfcheck, ui};

/// A loaded model and why it runs where it runs.
pub(crate) struct Loaded {
    pub(crate) model: GlmModel,
    /// What was counted before it was loaded.
    pub(crate) memory: MemoryBudget,
    emulated: bool,
    /// Why `auto` took the CPU.
    pub(crate) fallback: Option<String>,
    /// Calls that failed on a device that is not used any more.
    failures: Vec<Failure>,
}

/// What is told of a place beside its answers.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// One word for where it ran.
    pub(crate) ran_on: String,
    /// One line that says where it ran and, for `auto`, why not on the GPU.
    pub(crate) where_it_ran: String,
    /// Why `auto` took the CPU.
    pub(crate) fallback: Option<String>,
    /// Bytes, part by part.
    pub(crate) memory: Value,
    /// The device's calls that failed, by function and code.
    pub(crate) device_errors: Value,
    /// How often a worker was started again.
    pub(crate) restarts: usize,
}

/// A model in this process, and the keys and values of what it has read.
pub(crate) struct Here {
    pub(crate) loaded: Loaded,
    cache: KvCache,
    /// The ids whose keys and values the cache holds.
    cached: Vec<TokenId>,
    /// With `auto`: what a model on the CPU is made of, should the GPU fail.
    spare: Option<Spare>,
}

struct Spare {
    config: GlmConfig,
    weights: GlmWeights,
    args: DeviceArgs,
    caches: [CacheSize; 1],
}

impl Spare {
    /// The model on the CPU, what it takes, and an empty cache.
    fn load(&self) -> Result<(GlmModel, MemoryBudget, KvCache), GlmError> {
        let Spare { config, weights, args, caches } = self;
        let &[CacheSize { capacity, dtype }] = caches;
        let (model, memory) = load_on(config.clone(), weights, &Device::Cpu, *args, capacity, caches)?;
        let cache = model.new_cache(capacity, dtype)?;
        Ok((model, memory, cache))
    }
}

impl Here {
    /// Loads a model with a cache. Where its device may fail, `auto` keeps what the CPU needs to go on, if that is wanted.
    pub(crate) fn open(
        (config, weights): (GlmConfig, GlmWeights),
        args: DeviceArgs,
        cache: CacheSize,
        goes_on: bool,
    ) -> Result<Here> {
        let CacheSize { capacity, dtype } = cache;
        let caches = [cache];
        let needed = |model: &GlmModel| model.new_cache(capacity, dtype);
        let (loaded, cache) = load(config.clone(), &weights, args, capacity, &caches, needed)?;
        let may_fail = args.device.is_auto() && matches!(loaded.model.device(), Device::Hip(_));
        let spare = (goes_on && may_fail).then_some(Spare { config, weights, args, caches });
        Ok(Here { loaded, cache, cached: Vec::new(), spare })
    }

    /// Continues a prompt, of which only what the cache does not hold is read.
    pub(crate) fn generate(
        &mut self,
        prompt: &[TokenId],
        options: GenerateOptions<'_>,
        on_token: impl FnMut(TokenId) -> Result<Next, GlmError>,
    ) -> Result<Generated> {
        let fresh = self.reuse_cache(prompt)?;
        let Loaded { model, memory, fallback, failures, .. } = &mut self.loaded;
        let generated = match &self.spare {
            None => generate(model, &mut self.cache, fresh, options, on_token),
            Some(spare) => {
                let (device, place) = (model.device().clone(), (model, &mut self.cache));
                generate_with_failover(place, &self.cached, fresh, options, on_token, |error, tokens| {
                    let reason = format!("{device} failed after {tokens} tokens: {}", ui::one_line(error));
                    tracing::warn!(reason, "going on on the CPU");
                    *fallback = Some(reason);
                    failures.extend(failures_of(&device));
                    let (model, taken, cache) = spare.load()?;
                    *memory = taken;
                    Ok((model, cache))
                })
            }
        };
        // On the CPU there is no other place.
        if matches!(self.loaded.model.device(), Device::Cpu) {
            self.spare = None;
        }
        let generated = generated?;
        self.cached = prompt.to_vec();
        // The last token is given but not run, so the cache may lack it.
        self.cached.extend(&generated.tokens);
        self.cached.truncate(self.cache.len() as usize);
        Ok(generated)
    }

    /// Keeps what the cache shares with `prompt` and gives the rest of it, which is never empty.
    fn reuse_cache<'p>(&mut self, prompt: &'p [TokenId]) -> Result<&'p [TokenId]> {
        let shared = self.cached.iter().zip(prompt).take_while(|(cached, id)| cached == id).count();
        let shared = shared.min(prompt.len().saturating_sub(1));
        self.cache.truncate(u32::try_from(shared)?).map_err(GlmError::from)?;
        self.cached.truncate(shared);
        Ok(prompt.get(shared..).unwrap_or_default())
    }
}

/// Loads weights on the device that the flags ask for, with a bar, and makes what else is `needed` there, the `caches` among
/// it. Where `auto` gets a device that cannot run the whole model, it takes the CPU and says so.
pub(crate) fn load<R>(
    config: GlmConfig,
    weights: &GlmWeights,
    args: DeviceArgs,
    context: u32,
    caches: &[CacheSize],
    needed: impl Fn(&GlmModel) -> Result<R, GlmError>,
) -> Result<(Loaded, R)> {
    let Opened { device, fallback } = args.device.open().with_context(|| {
        format!("--device {} is not to be had; --device auto would use the CPU", args.device)
    })?;
    let fallback = fallback.map(|reason| ui::one_line(&reason));
    if let Device::Hip(hip) = &device {
        hip.set_deadline(args.device_timeout);
    }
    let on = |device: &Device| {
        if !args.device.is_emulated() {
            selfcheck::before_first_use(device)?;
        }
        let (model, memory) = load_on(config.clone(), weights, device, args, context, caches)?;
        let needed = needed(&model)?;
        anyhow::Ok((model, memory, needed))
    };
    let ((model, memory, needed), fallback) = match on(&device) {
        Ok(loaded) => (loaded, fallback),
        Err(reason)
            if args.device.is_auto()
                && matches!(device, Device::Hip(_))
                && device::is_to_blame(reason.as_ref()) =>
        {
            let reason = format!("{device}: {}", ui::one_line(reason.as_ref()));
            tracing::warn!(reason, "running on the CPU");
            (on(&Device::Cpu)?, Some(reason))
        }
        Err(reason) if device::is_to_blame(reason.as_ref()) => {
            return Err(reason.context(format!("--device {} cannot run this model", args.device)));
        }
        Err(reason) => return Err(reason),
    };
    // The device's, where the CPU was taken in its place.
    let failures = if matches!(model.device(), Device::Cpu) { failures_of(&device) } else { Vec::new() };
    Ok((Loaded { model, memory, emulated: args.device.is_emulated(), fallback, failures }, needed))
}

fn load_on(
    config: GlmConfig,
    weights: &GlmWeights,
    device: &Device,
    args: DeviceArgs,
    context: u32,
    caches: &[CacheSize],
) -> Result<(GlmModel, MemoryBudget), GlmError> {
    let mut loading = ui::Loading::new("loading");
    let mut progress = |loaded: usize, total: usize, tensor: &str| loading.advance(loaded, total, tensor);
    let options = LoadOptions {
        dtype: args.dtype,
        allow_non_finite: args.allow_non_finite,
        context: Some(context),
        caches,
        progress: Some(&mut progress),
        ..LoadOptions::default()
    };
    let memory = MemoryBudget::of(&config, weights, device, &options)?;
    ui::tell_memory(&memory, device.free_memory()?, device.shared_memory());
    let model = GlmModel::load(config, weights, device, options);
    loading.finish();
    Ok((model?, memory))
}

impl Loaded {
    /// One word for where it ran.
    pub(crate) fn ran_on(&self) -> String {
        if self.emulated { String::from("emu") } else { self.model.ran_on().to_string() }
    }

    /// One line that says where it ran and, for `auto`, why not on the GPU.
    pub(crate) fn where_it_ran(&self) -> String {
        match (self.model.device(), &self.fallback) {
            (Device::Hip(hip), _) if self.emulated => {
                format!("ran on emu: the kernels of {}, emulated on the CPU", hip.properties().arch)
            }
            (device @ Device::Hip(_), _) => format!("ran on {device}"),
            (Device::Cpu, Some(reason)) => format!("ran on cpu, not on a GPU: {reason}"),
            (Device::Cpu, None) => String::from("ran on cpu"),
        }
    }

    /// All that is told of it.
    pub(crate) fn report(&self) -> Report {
        let MemoryBudget { weights, caches, activations, rope_table, .. } = self.memory;
        let failures = self.failures.iter().cloned().chain(failures_of(self.model.device()));
        Report {
            ran_on: self.ran_on(),
            where_it_ran: self.where_it_ran(),
            fallback: self.fallback.clone(),
            memory: json!({
                "weights": weights,
                "keys_and_values": caches,
                "activations": activations,
                "rotary_table": rope_table,
                "total": self.memory.total(),
            }),
            device_errors: failures.map(|failure| as_json(&failure)).collect(),
            restarts: 0,
        }
    }
}

fn failures_of(device: &Device) -> Vec<Failure> {
    match device {
        Device::Cpu => Vec::new(),
        Device::Hip(hip) => hip.failures(),
    }
}

fn as_json(failure: &Failure) -> Value {
    json!({
        "call": failure.call,
        "code": failure.code,
        "name": failure.name,
        "class": failure.class.to_string(),
        "count": failure.count,
    })
}
