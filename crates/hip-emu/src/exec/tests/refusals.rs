//! What is refused by name, exactly.

use std::{collections::BTreeMap, fs, io, path::Path};

use flate2::read::GzDecoder;
use object::{Endianness, Object as _, ObjectSection as _, read::elf::ElfFile64};

use crate::{
    Arch,
    arch::Lacks,
    decode,
    descriptor::VectorRegisters,
    exec::{lacks::is_lacked, names::stem, table::Cpu, translate::operations},
};

/// What no form of is executed, and why compute code does not hold it or why it is not executed.
const GFX11: &[(&str, &str)] = &[
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

const GFX10: &[(&str, &str)] = &[
    ("buffer_atomic_cmpswap_f64", "no compiler emits it"),
    ("buffer_load_d16_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_load_d16_format_xy", "numbers of formats that are not gfx11's"),
    ("buffer_load_d16_format_xyz", "numbers of formats that are not gfx11's"),
    ("buffer_load_d16_format_xyzw", "numbers of formats that are not gfx11's"),
    ("buffer_load_d16_hi_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_load_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_load_format_xy", "numbers of formats that are not gfx11's"),
    ("buffer_load_format_xyz", "numbers of formats that are not gfx11's"),
    ("buffer_load_format_xyzw", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_format_xy", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_format_xyz", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_format_xyzw", "numbers of formats that are not gfx11's"),
    ("buffer_store_d16_hi_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_store_format_x", "numbers of formats that are not gfx11's"),
    ("buffer_store_format_xy", "numbers of formats that are not gfx11's"),
    ("buffer_store_format_xyz", "numbers of formats that are not gfx11's"),
    ("buffer_store_format_xyzw", "numbers of formats that are not gfx11's"),
    ("ds_gws_barrier", "global wave synchronisation: a queue that no launch here has"),
    ("ds_gws_init", "global wave synchronisation"),
    ("ds_gws_sema_br", "global wave synchronisation"),
    ("ds_gws_sema_p", "global wave synchronisation"),
    ("ds_gws_sema_release_all", "global wave synchronisation"),
    ("ds_gws_sema_v", "global wave synchronisation"),
    ("ds_ordered_count", "global data share, in the order of graphics waves"),
    ("flat_atomic_cmpswap_f64", "no compiler emits it"),
    ("global_atomic_cmpswap_f64", "no compiler emits it"),
    ("s_code_end", "stands behind the code"),
    ("s_endpgm_ordered_ps_done", "pixel shaders"),
    ("s_endpgm_saved", "trap handlers, after they saved a wave"),
    ("s_rfe_b64", "trap handlers, to return"),
    ("s_sendmsghalt", "halts until a debugger goes on"),
    ("s_setkill", "debuggers"),
    ("s_subvector_loop_begin", "halves of waves of 64 lanes"),
    ("s_subvector_loop_end", "halves of waves of 64 lanes"),
    ("tbuffer_load_d16_format_x", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_d16_format_xy", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_d16_format_xyz", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_d16_format_xyzw", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_format_x", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_format_xy", "numbers of formats that are not gfx11's"),
    ("tbuffer_load_format_xyzw", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_d16_format_x", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_d16_format_xy", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_d16_format_xyz", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_d16_format_xyzw", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_format_x", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_format_xy", "numbers of formats that are not gfx11's"),
    ("tbuffer_store_format_xyzw", "numbers of formats that are not gfx11's"),
];

const GFX12: &[(&str, &str)] = &[
    ("global_atomic_ordered_add_b64", "the order of graphics waves"),
    ("global_load_block", "blocks of registers, of later cards"),
    ("global_load_tr_b128", "transposed tiles, whose layout no document gives"),
    ("global_load_tr_b64", "transposed tiles, whose layout no document gives"),
    ("global_store_block", "blocks of registers, of later cards"),
    ("lds_param_load", "vertex parameters of pixel shaders"),
    ("s_barrier_init", "named barriers"),
    ("s_barrier_join", "named barriers"),
    ("s_barrier_leave", "named barriers"),
    ("s_barrier_signal_isfirst", "the order in which waves come to a barrier"),
    ("s_code_end", "stands behind the code"),
    ("s_endpgm_saved", "trap handlers, after they saved a wave"),
    ("s_get_barrier_state", "counts of waves, which differ from run to run"),
    ("s_rfe_b64", "trap handlers, to return"),
    ("s_sendmsghalt", "halts until a debugger goes on"),
    ("s_setkill", "debuggers"),
    ("s_wakeup_barrier", "named barriers"),
    ("scratch_load_block", "blocks of registers, of later cards"),
    ("scratch_store_block", "blocks of registers, of later cards"),
    ("v_cvt_sr_bf8_f32", "stochastic rounding"),
    ("v_cvt_sr_fp8_f32", "stochastic rounding"),
    ("v_swmmac_bf16_16x16x32_bf16", "sparse matrices"),
    ("v_swmmac_f16_16x16x32_f16", "sparse matrices"),
    ("v_swmmac_f32_16x16x32_bf16", "sparse matrices"),
    ("v_swmmac_f32_16x16x32_bf8_bf8", "sparse matrices"),
    ("v_swmmac_f32_16x16x32_bf8_fp8", "sparse matrices"),
    ("v_swmmac_f32_16x16x32_f16", "sparse matrices"),
    ("v_swmmac_f32_16x16x32_fp8_bf8", "sparse matrices"),
    ("v_swmmac_f32_16x16x32_fp8_fp8", "sparse matrices"),
    ("v_swmmac_i32_16x16x32_iu4", "sparse matrices"),
    ("v_swmmac_i32_16x16x32_iu8", "sparse matrices"),
    ("v_swmmac_i32_16x16x64_iu4", "sparse matrices"),
];

/// The vectors of an architecture.
fn vectors(arch: Arch) -> String {
    let packed: &[u8] = match arch {
        Arch::Gfx10 => include_bytes!("../../../tests/data/gfx10.tsv.gz"),
        Arch::Gfx11 => include_bytes!("../../../tests/data/gfx11.tsv.gz"),
        Arch::Gfx12 => include_bytes!("../../../tests/data/gfx12.tsv.gz"),
        Arch::Gfx9 | Arch::Gfx90a => include_bytes!("../../../tests/data/gfx90a.tsv.gz"),
        Arch::Gfx940 => include_bytes!("../../../tests/data/gfx940.tsv.gz"),
    };
    io::read_to_string(GzDecoder::new(packed)).unwrap()
}

/// Whether a form is refused of an operation that is executed otherwise.
pub(super) fn is_refused_form(name: &str, text: &str) -> bool {
    let integers = ["sad", "mul_", "mad_", "_co_"].iter().any(|part| name.contains(part));
    text.ends_with(" gds")
        || text.ends_with(" tfe")
        || (integers && text.contains(" clamp"))
        || ["src_lds_direct", "src_pops_exiting_wave_id"].iter().any(|source| text.contains(source))
}

/// Holds what is refused of an architecture's vectors to a list, and gives how many operations they hold.
pub(super) fn assert_refused(
    arch: Arch,
    expected: &[(&str, &str)],
    is_refused_form: fn(&str, &str) -> bool,
) -> usize {
    let mut translated: BTreeMap<String, bool> = BTreeMap::new();
    let mut forms = Vec::new();
    let all = VectorRegisters { ordinary: 256, accumulation: 256 };
    for line in vectors(arch).lines().filter(|line| !line.starts_with('#')) {
        let hex = line.split('\t').next().unwrap();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let Ok(instruction) = decode(arch, &bytes) else { continue };
        let executed = match arch.lanes() {
            64 => operations::<64>(&instruction, all, Cpu::Portable).is_some(),
            _ => operations::<32>(&instruction, all, Cpu::Portable).is_some(),
        };
        let name = stem(arch, instruction.mnemonic()).into_owned();
        if !executed {
            forms.push((name.clone(), instruction.to_string()));
        }
        *translated.entry(name).or_default() |= executed;
    }
    let refused = translated.iter().filter(|&(_, executed)| !executed);
    let refused: Vec<&str> = refused.map(|(name, _)| name.as_str()).collect();
    let expected: Vec<&str> =
        expected.iter().inspect(|(_, reason)| assert_ne!(*reason, "")).map(|&(name, _)| name).collect();
    assert_eq!(refused, expected, "{arch:?}");
    // Of what is executed, only some forms are not.
    let unknown: Vec<&str> = forms
        .iter()
        .filter(|(name, text)| translated[name] && !is_refused_form(name, text))
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(unknown, [""; 0], "{arch:?}");
    translated.len()
}

#[test]
fn what_is_not_executed_is_refused_by_name() {
    assert_eq!(assert_refused(Arch::Gfx11, GFX11, is_refused_form), 1060);
}

#[test]
fn what_gfx10_refuses() {
    fn form(name: &str, text: &str) -> bool {
        let integers = ["_min", "_max", "_med3", "_clz", "_cls"].iter().any(|part| name.contains(part));
        is_refused_form(name, text) || text.ends_with(" lds") || (integers && text.contains(" clamp"))
    }
    assert_eq!(assert_refused(Arch::Gfx10, GFX10, form), 990);
}

#[test]
fn what_gfx12_refuses() {
    // Barriers other than the one of a whole group.
    let form = |name: &str, text: &str| is_refused_form(name, text) || name.starts_with("s_barrier_");
    assert_eq!(assert_refused(Arch::Gfx12, GFX12, form), 1159);
}

/// The images of the workspace's kernels, for every target that is an [`Arch`].
#[test]
fn shipped_kernels_hold_nothing_that_is_refused() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let all = VectorRegisters { ordinary: 256, accumulation: 256 };
    let (mut images, mut instructions) = (0, 0);
    for owner in ["kernels-rope", "kernels-nn", "attention"] {
        for folder in fs::read_dir(crates.join(owner).join("hsaco")).unwrap().map(Result::unwrap) {
            let target = folder.file_name().into_string().unwrap();
            let Some(arch) = Arch::from_target(&target) else { continue };
            let lacks = Lacks::of(&target);
            for image in
                fs::read_dir(folder.path()).unwrap().map(|image| fs::read(image.unwrap().path()).unwrap())
            {
                let file = ElfFile64::<Endianness>::parse(&*image).unwrap();
                let code = file.section_by_name(".text").unwrap().data().unwrap().to_vec();
                let mut at = 0;
                while at < code.len() {
                    // Behind the code lies what ends it.
                    let Ok(instruction) = decode(arch, &code[at..]) else { break };
                    at += instruction.length();
                    let executed = match arch.lanes() {
                        64 => operations::<64>(&instruction, all, Cpu::Portable).is_some(),
                        _ => operations::<32>(&instruction, all, Cpu::Portable).is_some(),
                    };
                    let padding = instruction.mnemonic() == "s_code_end";
                    assert!(
                        (executed && !is_lacked(lacks, &instruction)) || padding,
                        "{owner} {target}: {instruction}"
                    );
                    instructions += 1;
                }
                images += 1;
            }
        }
    }
    assert!(images >= 100 && instructions > 100_000, "{images} images, {instructions} instructions");
}
