// Kernels of instructions that compilers seldom or never make: `void kernel(void* out, const void* in)`.
	.amdgcn_target "amdgcn-amd-amdhsa--gfx1100"
	.text

// out[i] = {i, 1, 0.5, -2} as four binary16.
	.globl typed
	.p2align 8
	.type typed,@function
typed:
	s_load_b64 s[8:9], s[0:1], 0x0
	s_waitcnt lgkmcnt(0)
	s_or_b32 s9, s9, 0x80000
	s_mov_b32 s10, 64
	s_movk_i32 s11, 0xfac
	v_cvt_f32_u32_e32 v1, v0
	v_mov_b32_e32 v2, 1.0
	v_mov_b32_e32 v3, 0.5
	v_mov_b32_e32 v4, -2.0
	tbuffer_store_format_xyzw v[1:4], v0, s[8:11], 0 format:[BUF_FMT_16_16_16_16_FLOAT] idxen
	s_endpgm

// out[i] = how many lanes counted before the wave of i did.
	.globl counted
	.p2align 8
	.type counted,@function
counted:
	s_load_b64 s[4:5], s[0:1], 0x0
	v_mov_b32_e32 v1, 0
	v_mov_b32_e32 v2, 0
	v_cmp_eq_u32_e32 vcc_lo, 0, v0
	s_and_saveexec_b32 s6, vcc_lo
	ds_store_b32 v1, v2 offset:8
	s_mov_b32 exec_lo, s6
	s_waitcnt lgkmcnt(0)
	s_barrier
	s_mov_b32 m0, 4
	ds_append v3 offset:4
	s_waitcnt lgkmcnt(0)
	v_lshlrev_b32_e32 v4, 2, v0
	global_store_b32 v4, v3, s[4:5]
	s_endpgm

// out[i] = in[i ^ 32], through LDS. The second one does not wait for its own part before the barrier.
	.macro staged name, waits
	.globl \name
	.p2align 8
	.type \name,@function
\name:
	s_load_b128 s[4:7], s[0:1], 0x0
	s_waitcnt lgkmcnt(0)
	s_mov_b64 s[8:9], s[6:7]
	s_movk_i32 s10, 0x100
	s_mov_b32 s11, 0x30000000
	v_lshlrev_b32_e32 v1, 2, v0
	v_readfirstlane_b32 s12, v1
	s_mov_b32 m0, s12
	buffer_load_lds_b32 v1, s[8:11], 0 offen
	.if \waits
	s_waitcnt vmcnt(0)
	.endif
	s_barrier
	s_xor_b32 m0, s12, 0x80
	ds_load_addtid_b32 v2
	s_waitcnt lgkmcnt(0)
	s_add_u32 s4, s4, s12
	s_addc_u32 s5, s5, 0
	global_store_addtid_b32 v2, s[4:5]
	s_endpgm
	.endm
	staged staged, 1
	staged staged_unwaited, 0

// out[i] = in[i] + (i ^ 32), the second through LDS, while a flat load is on its way across the barrier. The second one does
// not wait for its own part of LDS.
	.macro across name, waits
	.globl \name
	.p2align 8
	.type \name,@function
\name:
	s_load_b128 s[4:7], s[0:1], 0x0
	v_lshlrev_b32_e32 v1, 2, v0
	s_waitcnt lgkmcnt(0)
	v_add_co_u32 v2, vcc_lo, s6, v1
	v_add_co_ci_u32_e64 v3, vcc_lo, s7, 0, vcc_lo
	flat_load_b32 v4, v[2:3]
	ds_store_b32 v1, v0
	.if \waits
	s_waitcnt lgkmcnt(0)
	.endif
	s_barrier
	v_xor_b32_e32 v5, 0x80, v1
	ds_load_b32 v6, v5
	s_waitcnt vmcnt(0) lgkmcnt(0)
	v_add_nc_u32_e32 v4, v4, v6
	global_store_b32 v1, v4, s[4:5]
	s_endpgm
	.endm
	across across, 1
	across across_unwaited, 0

// out[i] = {exp2(in[i]), 1 / in[i]}
	.globl approximate
	.p2align 8
	.type approximate,@function
approximate:
	s_load_b128 s[4:7], s[0:1], 0x0
	v_lshlrev_b32_e32 v1, 2, v0
	v_lshlrev_b32_e32 v5, 3, v0
	s_waitcnt lgkmcnt(0)
	global_load_b32 v2, v1, s[6:7]
	s_waitcnt vmcnt(0)
	v_exp_f32_e32 v3, v2
	v_rcp_f32_e32 v4, v2
	global_store_b64 v5, v[3:4], s[4:5]
	s_endpgm

// out[i] = 1 + in[i], rounded up.
	.globl upward
	.p2align 8
	.type upward,@function
upward:
	s_load_b128 s[4:7], s[0:1], 0x0
	v_lshlrev_b32_e32 v1, 2, v0
	s_waitcnt lgkmcnt(0)
	global_load_b32 v2, v1, s[6:7]
	s_waitcnt vmcnt(0)
	v_add_f32_e32 v2, 1.0, v2
	global_store_b32 v1, v2, s[4:5]
	s_endpgm

	.rodata
	.macro descriptor name, lds, rounding
	.p2align 6
	.amdhsa_kernel \name
		.amdhsa_group_segment_fixed_size \lds
		.amdhsa_kernarg_size 16
		.amdhsa_user_sgpr_kernarg_segment_ptr 1
		.amdhsa_next_free_vgpr 8
		.amdhsa_next_free_sgpr 16
		.amdhsa_wavefront_size32 1
		.amdhsa_float_round_mode_32 \rounding
		.amdhsa_float_denorm_mode_32 3
		.amdhsa_float_denorm_mode_16_64 3
	.end_amdhsa_kernel
	.endm
	descriptor typed, 0, 0
	descriptor counted, 16, 0
	descriptor staged, 256, 0
	descriptor staged_unwaited, 256, 0
	descriptor across, 256, 0
	descriptor across_unwaited, 256, 0
	descriptor approximate, 0, 0
	descriptor upward, 0, 1

	.amdgpu_metadata
---
amdhsa.version: [1, 2]
amdhsa.target: amdgcn-amd-amdhsa--gfx1100
amdhsa.kernels:
  - .name: typed
    .symbol: typed.kd
    .args:
      - { .address_space: global, .offset: 0, .size: 8, .value_kind: global_buffer }
      - { .address_space: global, .offset: 8, .size: 8, .value_kind: global_buffer }
    .group_segment_fixed_size: 0
    .private_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 16
    .max_flat_workgroup_size: 1024
    .sgpr_count: 16
    .sgpr_spill_count: 0
    .vgpr_count: 8
    .vgpr_spill_count: 0
    .wavefront_size: 32
  - .name: counted
    .symbol: counted.kd
    .args:
      - { .address_space: global, .offset: 0, .size: 8, .value_kind: global_buffer }
      - { .address_space: global, .offset: 8, .size: 8, .value_kind: global_buffer }
    .group_segment_fixed_size: 16
    .private_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 16
    .max_flat_workgroup_size: 1024
    .sgpr_count: 16
    .sgpr_spill_count: 0
    .vgpr_count: 8
    .vgpr_spill_count: 0
    .wavefront_size: 32
  - .name: staged
    .symbol: staged.kd
    .args:
      - { .address_space: global, .offset: 0, .size: 8, .value_kind: global_buffer }
      - { .address_space: global, .offset: 8, .size: 8, .value_kind: global_buffer }
    .group_segment_fixed_size: 256
    .private_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 16
    .max_flat_workgroup_size: 1024
    .sgpr_count: 16
    .sgpr_spill_count: 0
    .vgpr_count: 8
    .vgpr_spill_count: 0
    .wavefront_size: 32
  - .name: staged_unwaited
    .symbol: staged_unwaited.kd
    .args:
      - { .address_space: global, .offset: 0, .size: 8, .value_kind: global_buffer }
      - { .address_space: global, .offset: 8, .size: 8, .value_kind: global_buffer }
    .group_segment_fixed_size: 256
    .private_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 16
    .max_flat_workgroup_size: 1024
    .sgpr_count: 16
    .sgpr_spill_count: 0
    .vgpr_count: 8
    .vgpr_spill_count: 0
    .wavefront_size: 32
  - .name: across
    .symbol: across.kd
    .args:
      - { .address_space: global, .offset: 0, .size: 8, .value_kind: global_buffer }
      - { .address_space: global, .offset: 8, .size: 8, .value_kind: global_buffer }
    .group_segment_fixed_size: 256
    .private_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 16
    .max_flat_workgroup_size: 1024
    .sgpr_count: 16
    .sgpr_spill_count: 0
    .vgpr_count: 8
    .vgpr_spill_count: 0
    .wavefront_size: 32
  - .name: across_unwaited
    .symbol: across_unwaited.kd
    .args:
      - { .address_space: global, .offset: 0, .size: 8, .value_kind: global_buffer }
      - { .address_space: global, .offset: 8, .size: 8, .value_kind: global_buffer }
    .group_segment_fixed_size: 256
    .private_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 16
    .max_flat_workgroup_size: 1024
    .sgpr_count: 16
    .sgpr_spill_count: 0
    .vgpr_count: 8
    .vgpr_spill_count: 0
    .wavefront_size: 32
  - .name: approximate
    .symbol: approximate.kd
    .args:
      - { .address_space: global, .offset: 0, .size: 8, .value_kind: global_buffer }
      - { .address_space: global, .offset: 8, .size: 8, .value_kind: global_buffer }
    .group_segment_fixed_size: 0
    .private_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 16
    .max_flat_workgroup_size: 1024
    .sgpr_count: 16
    .sgpr_spill_count: 0
    .vgpr_count: 8
    .vgpr_spill_count: 0
    .wavefront_size: 32
  - .name: upward
    .symbol: upward.kd
    .args:
      - { .address_space: global, .offset: 0, .size: 8, .value_kind: global_buffer }
      - { .address_space: global, .offset: 8, .size: 8, .value_kind: global_buffer }
    .group_segment_fixed_size: 0
    .private_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 16
    .max_flat_workgroup_size: 1024
    .sgpr_count: 16
    .sgpr_spill_count: 0
    .vgpr_count: 8
    .vgpr_spill_count: 0
    .wavefront_size: 32
...
	.end_amdgpu_metadata
