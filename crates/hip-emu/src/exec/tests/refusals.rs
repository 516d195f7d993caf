//! What is refused by name, exactly.

use std::{collections::BTreeMap, io};

use flate2::read::GzDecoder;

use crate::{
    Arch, decode,
    descriptor::VectorRegisters,
    exec::{names::stem, table::Cpu, translate::operations},
};

/// What no form of is executed, and why compute code does not hold it or why it is not executed.
const REFUSED: &[(&str, &str)] = &[
    ("ds_add_gs_reg_rtn", "registers of geometry shaders"),
    ("ds_bvh_stack_rtn_b32", "goes with image_bvh, which is refused"),
    ("ds_gws_barrier", "global wave synchronisation: a queue that no launch here has"),
    ("ds_gws_init", "global wave synchronisation"),
    ("ds_gws_sema_br", "global wave synchronisation"),
    ("ds_gws_sema_p", "global wave synchronisation"),
    ("ds_gws_sema_release_all", "global wave synchronisation"),
    ("ds_gws_sema_v", "global wave synchronisation"),
    ("ds_ordered_count", "global data share, in the order of graphics waves"),
    ("ds_sub_gs_reg_rtn", "registers of geometry shaders"),
    ("lds_param_load", "vertex parameters of pixel shaders"),
    ("s_code_end", "stands behind the code"),
    ("s_endpgm_saved", "trap handlers, after they saved a wave"),
    ("s_rfe_b64", "trap handlers, to return"),
    ("s_sendmsghalt", "halts until a debugger goes on"),
    ("s_setkill", "debuggers"),
    ("s_subvector_loop_begin", "halves of waves of 64 lanes"),
    ("s_subvector_loop_end", "halves of waves of 64 lanes"),
];

#[test]
fn what_is_not_executed_is_refused_by_name() {
    let packed = &include_bytes!("../../../tests/data/gfx11.tsv.gz")[..];
    let text = io::read_to_string(GzDecoder::new(packed)).unwrap();
    let mut translated: BTreeMap<String, bool> = BTreeMap::new();
    let mut forms = Vec::new();
    let all = VectorRegisters { ordinary: 256, accumulation: 0 };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let hex = line.split('\t').next().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let Ok(instruction) = decode(Arch::Gfx11, &bytes) else { continue };
        let executed = operations::<32>(&instruction, all, Cpu::Portable).is_some();
        if !executed {
            forms.push((
                stem(instruction.arch(), instruction.mnemonic()).into_owned(),
                instruction.to_string(),
            ));
        }
        *translated.entry(stem(instruction.arch(), instruction.mnemonic()).into_owned()).or_default() |=
            executed;
    }
    let refused = translated.iter().filter(|&(_, executed)| !executed);
    let refused: Vec<&str> = refused.map(|(name, _)| name.as_str()).collect();
    let expected: Vec<&str> = REFUSED.iter().map(|&(name, _)| name).collect();
    assert_eq!(refused, expected);
    assert!(REFUSED.iter().all(|(_, reason)| !reason.is_empty()));
    // Of what is executed, only these forms are not.
    for (name, text) in forms.iter().filter(|(name, _)| translated[name]) {
        let integers = ["sad", "mul_", "mad_", "_co_"].iter().any(|part| name.contains(part));
        let known = text.ends_with(" gds")
            || text.ends_with(" tfe")
            || (integers && text.contains(" clamp"))
            || ["src_lds_direct", "src_pops_exiting_wave_id"].iter().any(|source| text.contains(source));
        assert!(known, "{text}");
    }
    assert_eq!(translated.len(), 1060);
}
