//! Answers whose device fails on the way: at every call in turn, and with codes of each class.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use attention::{KvCache, KvDType};
use device_mem::{Device, RanOn};
use hip_ffi::HipApi;
use hip_ffi::faults::{self, Fault, Mode};
use hip_ffi::sys::hipError_t;
use kernels_nn::{Sampler, SamplerConfig};
use model_glm::{
    GenerateOptions, Generated, GlmConfig, GlmError, GlmModel, GlmWeights, LoadOptions, Next, TokenId,
    generate, generate_with_failover,
};
use parity::{golden_dir, host_hip};

const PROMPT: [TokenId; 5] = [11, 50, 7, 7, 63];
const MAX_TOKENS: usize = 6;
const CONTEXT: u32 = 64;

/// Calls that an answer makes: launches, copies and waits.
const CALLS: [&str; 3] = ["hipModuleLaunchKernel", "hipMemcpyAsync", "hipStreamSynchronize"];

/// The plan is the process's, so the tests take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernels on the host, behind a table whose calls fail as planned. Without graphs, so that each launch is a call.
fn device() -> Device {
    faults::plan(None);
    let api = HipApi { graph: None, ..faults::around(host_hip()) };
    Device::from_api(api, 0).unwrap()
}

/// The model of a golden checkpoint and its cache.
fn model(device: &Device) -> Result<(GlmModel, KvCache), GlmError> {
    let folder = golden_dir().join("glm4");
    let options = LoadOptions { context: Some(CONTEXT), ..LoadOptions::default() };
    let model = GlmModel::load(GlmConfig::open(&folder)?, &GlmWeights::open(&folder)?, device, options)?;
    let cache = model.new_cache(CONTEXT, KvDType::F32)?;
    Ok((model, cache))
}

fn options(step: u64) -> GenerateOptions<'static> {
    let config = SamplerConfig { temperature: 1.0, seed: 3, ..SamplerConfig::default() };
    let sampler = Sampler::new(config).unwrap().at_step(step);
    GenerateOptions { max_tokens: MAX_TOKENS - usize::try_from(step).unwrap(), sampler, stop_ids: &[] }
}

/// What the CPU answers to the prompt and the first tokens of an answer.
fn on_cpu(answered: &[TokenId]) -> Vec<TokenId> {
    let (model, mut cache) = model(&Device::Cpu).unwrap();
    let ids = [&PROMPT, answered].concat();
    generate(&model, &mut cache, &ids, options(answered.len() as u64), |_| Ok(Next::Continue)).unwrap().tokens
}

/// An answer under a fault, the tokens that were told, and how often the device failed.
fn answer(fault: Option<Fault>) -> (Generated, Vec<TokenId>, usize) {
    let (mut model_there, mut cache) = model(&device()).unwrap();
    faults::plan(fault);
    let (mut told, mut failures) = (Vec::new(), 0);
    let generated = generate_with_failover(
        (&mut model_there, &mut cache),
        &[],
        &PROMPT,
        options(0),
        |token| {
            told.push(token);
            Ok(Next::Continue)
        },
        |error, tokens| {
            assert!(error.is_of_device(), "{error}");
            failures += 1;
            assert!(tokens < MAX_TOKENS);
            model(&Device::Cpu)
        },
    );
    (generated.unwrap(), told, failures)
}

#[test]
fn an_answer_ends_on_the_cpu_whichever_call_fails() {
    let _turn = turn();
    let (whole, told, failures) = answer(None);
    let counts = faults::met().counts();
    assert_eq!((whole.ran_on, whole.failed_after, &told, failures), (RanOn::Hip, None, &whole.tokens, 0));
    let mut points = 0;
    for (code, mode) in
        [(700, Mode::Sticky), (719, Mode::Once), (999, Mode::Done), (2, Mode::Once), (2, Mode::Done)]
    {
        let of_calls = CALLS.into_iter().flat_map(|call| (1..=counts[call]).map(move |at| (call, at)));
        for (call, at) in of_calls {
            // Each call of the prompt and the first token, then some.
            if at > 30 && at % 13 != 0 {
                continue;
            }
            let fault = Fault { call, at, code: hipError_t(code), mode };
            let (generated, told, failures) = answer(Some(fault));
            let before = generated.failed_after.unwrap_or_else(|| panic!("{fault:?} was not met"));
            assert_eq!((generated.ran_on, failures), (RanOn::Cpu, 1), "{fault:?}");
            assert_eq!(told, generated.tokens, "{fault:?}: every token is told once");
            assert_eq!(told[..before], whole.tokens[..before], "{fault:?}: the device's");
            assert_eq!(told[before..], on_cpu(&told[..before]), "{fault:?}: the CPU's");
            points += 1;
        }
    }
    assert!(points > 100, "{points} points of {counts:?}");
    eprintln!("{points} failing calls of {counts:?}");
}

#[test]
fn what_the_cache_held_is_rebuilt() {
    let _turn = turn();
    let (mut model_there, mut cache) = model(&device()).unwrap();
    let (cached, prompt) = PROMPT.split_at(3);
    model_there.forward(cached, &mut cache).unwrap();
    let code = hipError_t::hipErrorIllegalAddress;
    faults::plan(Some(Fault { call: "hipStreamSynchronize", at: 2, code, mode: Mode::Sticky }));
    let place = (&mut model_there, &mut cache);
    let on_token = |_| Ok(Next::Continue);
    let generated =
        generate_with_failover(place, cached, prompt, options(0), on_token, |_, _| model(&Device::Cpu))
            .unwrap();
    let before = generated.failed_after.unwrap();
    assert_eq!(generated.tokens[before..], on_cpu(&generated.tokens[..before]));
    assert_eq!(cache.len() as usize, PROMPT.len() + MAX_TOKENS - 1);
}

#[test]
fn errors_that_no_device_made_are_passed_on() {
    let _turn = turn();
    let (mut model_there, mut cache) = model(&device()).unwrap();
    let place = (&mut model_there, &mut cache);
    let another = |_: &GlmError, _: usize| -> Result<(GlmModel, KvCache), GlmError> {
        panic!("the device did not fail")
    };
    let unknown = past_the_vocabulary();
    let error = generate_with_failover(place, &[], &[unknown], options(0), |_| Ok(Next::Continue), another);
    assert!(!error.unwrap_err().is_of_device());
}

/// A token that the vocabulary lacks.
fn past_the_vocabulary() -> TokenId {
    u32::try_from(GlmConfig::open(&golden_dir().join("glm4")).unwrap().vocab_size).unwrap()
}

#[test]
fn the_other_places_error_is_told() {
    let _turn = turn();
    let (mut model_there, mut cache) = model(&device()).unwrap();
    let code = hipError_t::hipErrorIllegalAddress;
    faults::plan(Some(Fault { call: "hipModuleLaunchKernel", at: 1, code, mode: Mode::Sticky }));
    let place = (&mut model_there, &mut cache);
    let on_token = |_| Ok(Next::Continue);
    let error =
        generate_with_failover(place, &[], &PROMPT, options(0), on_token, |_, _| Err(GlmError::NoTokens));
    assert!(matches!(error, Err(GlmError::NoTokens)));
}
