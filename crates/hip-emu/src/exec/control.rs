//! Program control: branches, calls, barriers, hardware registers.

use crate::{
    Arch, FaultKind, LaunchFault,
    exec::{
        element::{scalar32, scalar64},
        environment::Environment,
        indexing,
        mode::Mode,
        op::{Op, PRIVATE_APERTURE, SHARED_APERTURE, Target},
        table::scalar_instructions,
        wave::{EXEC, Stop, VCC, Wave, low},
    },
};

fn jump<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let distance = isize::try_from(op.immediate).unwrap_or(0);
    wave.pc = wave.pc.wrapping_add_signed(distance);
}

/// Address of the next instruction.
fn next_address<const L: usize>(wave: &Wave<L>, environment: &Environment<'_>) -> u64 {
    environment.code_address.wrapping_add((wave.pc as u64).wrapping_mul(4))
}

fn jump_to<const L: usize>(wave: &mut Wave<L>, environment: &Environment<'_>, address: u64) {
    let offset = address.wrapping_sub(environment.code_address);
    if offset < environment.code_bytes && offset.is_multiple_of(4) {
        wave.pc = usize::try_from(offset / 4).unwrap_or(usize::MAX);
    } else {
        wave.fault(LaunchFault::new(FaultKind::LeftCode, None));
    }
}

fn put64<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, value: u64) {
    if let Target::Scalar(index) = op.target {
        wave.set_scalar64(usize::from(index), value);
    }
}

/// Changes MODE; traps on float exceptions are refused.
fn set_mode<const L: usize>(wave: &mut Wave<L>, mode: Mode) {
    wave.mode = mode;
    if mode.is_refused() {
        wave.fault(LaunchFault::new(FaultKind::Mode(mode.visible()), None));
    }
}

/// Number, first bit and mask of a hardware register's field.
fn register_field<const L: usize>(op: &Op<L>) -> (u32, u32, u32) {
    let code = op.immediate.cast_unsigned();
    let (number, shift, width) = (code & 63, code >> 6 & 31, (code >> 11 & 31) + 1);
    (number, shift, low((1_u64 << width) - 1))
}

const MODE: u32 = 1;
const SH_MEM_BASES: u32 = 15;
/// The same as `HW_ID1`, of gfx9 only.
const HW_ID: u32 = 4;
/// The die, of CDNA3 only.
const XCC_ID: u32 = 20;
const HW_ID1: u32 = 23;
const HW_ID2: u32 = 24;
const SHADER_CYCLES: u32 = 29;
/// The upper half of the cycles, of gfx12 only.
const SHADER_CYCLES_HI: u32 = 30;
/// Where scratch is, of gfx10 only.
const FLAT_SCRATCH_LO: u32 = 20;
const FLAT_SCRATCH_HI: u32 = 21;

fn get_register<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, environment: &mut Environment<'_>) {
    let (number, shift, mask) = register_field(op);
    let of_gfx9 = environment.arch.is_gfx9();
    let value = match number {
        MODE => wave.mode.visible(),
        // The upper 16 bits of the apertures: scratch, then LDS.
        SH_MEM_BASES => PRIVATE_APERTURE >> 16 | SHARED_APERTURE & 0xffff_0000,
        // The first SIMD of the first compute unit; of its waves, the one with the wave's number.
        HW_ID if of_gfx9 => wave.number & 15,
        XCC_ID if environment.arch == Arch::Gfx940 => 0,
        HW_ID1 if !of_gfx9 => wave.number & 31,
        HW_ID2 if !of_gfx9 => 0,
        SHADER_CYCLES if !of_gfx9 => {
            environment.clock += 1;
            low(environment.clock + wave.executed)
        }
        SHADER_CYCLES_HI if environment.arch == Arch::Gfx12 => low((environment.clock + wave.executed) >> 32),
        _ => return crate::exec::lanes::unsupported(wave),
    };
    if let Target::Scalar(index) = op.target {
        wave.set_scalar(usize::from(index), value >> shift & mask);
    }
}

fn set_register<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, environment: &Environment<'_>) {
    let (number, shift, mask) = register_field(op);
    let value = scalar32(wave, op.sources[0].place);
    match number {
        MODE => set_mode(wave, wave.mode.written(mask << shift, value << shift)),
        // A wave's own scratch is where it was told, at offset zero: elsewhere there is none.
        FLAT_SCRATCH_LO | FLAT_SCRATCH_HI if environment.arch == Arch::Gfx10 && value == 0 => {}
        _ => crate::exec::lanes::unsupported(wave),
    }
}

/// Messages that compute code sends, none of which has an effect here: an interrupt that the host waits for, which it need
/// not, and registers that are given back early.
fn send<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    const INTERRUPT: i32 = 1;
    const DEALLOC_VGPRS: i32 = 3;
    if !matches!(op.immediate & 0xff, INTERRUPT | DEALLOC_VGPRS) {
        crate::exec::lanes::unsupported(wave);
    }
}

/// Messages with an answer.
fn ask<const L: usize>(wave: &mut Wave<L>, op: &Op<L>, environment: &mut Environment<'_>, words: usize) {
    const DOORBELL: i32 = 128;
    const TRAP_MEMORY: i32 = 130;
    const REAL_TIME: i32 = 131;
    const TRAP_HANDLER: i32 = 133;
    let answer = match op.immediate & 0xff {
        // The doorbell that an abort asks for, which nobody answers, and a trap handler that there is not.
        DOORBELL | TRAP_MEMORY | TRAP_HANDLER => 0,
        REAL_TIME => {
            environment.clock += 1;
            environment.clock + wave.executed
        }
        _ => return crate::exec::lanes::unsupported(wave),
    };
    let Target::Scalar(index) = op.target else { return };
    for word in 0..words {
        wave.set_scalar(usize::from(index) + word, low(answer >> (32 * word)));
    }
}

/// Says that the wave has come to its group's barrier.
fn signal<const L: usize>(wave: &mut Wave<L>) {
    if wave.signalled {
        // It would come to the next barrier before the others have left this one.
        return crate::exec::lanes::unsupported(wave);
    }
    wave.signalled = true;
}

/// Waits for the barrier that the wave has said it came to; there is no other to wait for.
fn wait_at_barrier<const L: usize>(wave: &mut Wave<L>) {
    if !wave.signalled {
        return crate::exec::lanes::unsupported(wave);
    }
    wave.stop = Some(Stop::Barrier);
}

fn trap<const L: usize>(wave: &mut Wave<L>, op: &Op<L>) {
    let number = u16::try_from(op.immediate & 0xffff).unwrap_or(0);
    wave.fault(LaunchFault::new(FaultKind::Trap(number), None));
}

scalar_instructions! {
    flow(wave, op, environment) {
        "s_endpgm" => wave.stop = Some(Stop::End);
        "s_branch" => jump(wave, op);
        "s_cbranch_scc0" => if !wave.scc { jump(wave, op) };
        "s_cbranch_scc1" => if wave.scc { jump(wave, op) };
        "s_cbranch_vccz" => if wave.mask(VCC) == 0 { jump(wave, op) };
        "s_cbranch_vccnz" => if wave.mask(VCC) != 0 { jump(wave, op) };
        "s_cbranch_execz" => if wave.mask(EXEC) == 0 { jump(wave, op) };
        "s_cbranch_execnz" => if wave.mask(EXEC) != 0 { jump(wave, op) };
        "s_barrier" => wave.stop = Some(Stop::Barrier);
        "s_barrier_signal" => signal(wave);
        "s_barrier_wait" => wait_at_barrier(wave);
        "s_sleep" | "s_sleep_var" => wave.stop = Some(Stop::Yield);
        "s_trap" => trap(wave, op);
        "s_sethalt" => trap(wave, op);
        "s_getpc_b64" => { let address = next_address(wave, environment); put64(wave, op, address) };
        "s_setpc_b64" => { let address = scalar64(wave, op.sources[0].place); jump_to(wave, environment, address) };
        "s_swappc_b64" => {
            let (address, next) = (scalar64(wave, op.sources[0].place), next_address(wave, environment));
            put64(wave, op, next);
            jump_to(wave, environment, address);
        };
        "s_call_b64" => { let next = next_address(wave, environment); put64(wave, op, next); jump(wave, op) };
        "s_getreg_b32" => get_register(wave, op, environment);
        "s_setreg_b32" | "s_setreg_imm32_b32" => set_register(wave, op, environment);
        "s_round_mode" => set_mode(wave, wave.mode.written(15, op.immediate.cast_unsigned()));
        "s_denorm_mode" => set_mode(wave, wave.mode.written(0xf0, op.immediate.cast_unsigned() << 4));
        // Without effect on values.
        "s_nop" | "s_clause" | "s_delay_alu" | "s_waitcnt" | "s_waitcnt_depctr" | "s_waitcnt_vscnt" | "s_waitcnt_vmcnt"
            | "s_waitcnt_expcnt" | "s_waitcnt_lgkmcnt" | "s_wait_idle" | "s_wait_event" | "s_setprio" | "s_icache_inv"
            | "s_dcache_inv" | "s_gl1_inv" | "buffer_gl0_inv" | "buffer_gl1_inv" | "buffer_inv" | "buffer_invl2" | "buffer_wbl2" | "buffer_wbinvl1" | "buffer_wbinvl1_vol"
            | "s_dcache_wb" | "s_dcache_wb_vol" | "s_dcache_inv_vol" | "s_dcache_discard" | "s_dcache_discard_x2" | "s_set_inst_prefetch_distance"
            | "s_version" | "s_ttracedata" | "s_ttracedata_imm" | "s_incperflevel" | "s_decperflevel" | "s_wakeup"
            | "s_wait_alu" | "s_wait_loadcnt" | "s_wait_storecnt" | "s_wait_dscnt" | "s_wait_kmcnt" | "s_wait_expcnt"
            | "s_wait_samplecnt" | "s_wait_bvhcnt" | "s_wait_loadcnt_dscnt" | "s_wait_storecnt_dscnt" | "s_prefetch_inst"
            | "s_prefetch_inst_pc_rel" | "s_prefetch_data" | "s_prefetch_data_pc_rel" | "s_buffer_prefetch_data" | "v_clrexcp"
            | "s_singleuse_vdst" | "s_atc_probe" | "s_atc_probe_buffer" | "v_nop" | "v_pipeflush" | "ds_nop" => {};
        // No debugger sets the conditions.
        "s_cbranch_cdbgsys" | "s_cbranch_cdbguser" | "s_cbranch_cdbgsys_or_user" | "s_cbranch_cdbgsys_and_user" => {};
        "s_memtime" | "s_memrealtime" => {
            environment.clock += 1;
            let now = environment.clock + wave.executed;
            put64(wave, op, now);
        };
        "s_set_gpr_idx_on" => { let by = scalar32(wave, op.sources[0].place); indexing::start(wave, by, op.immediate.cast_unsigned()) };
        "s_set_gpr_idx_off" => wave.indexes = false;
        "s_set_gpr_idx_idx" => { let by = scalar32(wave, op.sources[0].place); indexing::set(wave, by, indexing::current(wave).1) };
        "s_set_gpr_idx_mode" => indexing::set(wave, indexing::current(wave).0, op.immediate.cast_unsigned());
        "s_sendmsg" => send(wave, op);
        "s_sendmsg_rtn_b32" => ask(wave, op, environment, 1);
        "s_sendmsg_rtn_b64" => ask(wave, op, environment, 2);
    }
}
