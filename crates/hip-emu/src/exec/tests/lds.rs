//! LDS accesses whose addresses come from M0, from the lane's number, or from a buffer.

use super::{fill, fill64, pair, run_with, wave};
use crate::{
    exec::wave::{EXEC, M0},
    memory::Memory,
};

fn words(lds: &[u8]) -> Vec<u32> {
    lds.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn bytes(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[test]
fn lanes_are_counted() {
    let memory = Memory::new(false, false);
    let mut wave = wave();
    fill(&mut wave, &[(5, 77)]);
    wave.set_mask(EXEC, 0b1011_0000);
    wave.set_scalar(M0, 4);
    let lds = run_with("ds_append v5 offset:8", &mut wave, &memory, bytes(0..8));
    assert_eq!(words(&lds), [0, 1, 2, 3 + 3, 4, 5, 6, 7]);
    assert_eq!((wave.row(5)[4], wave.row(5)[7], wave.row(5)[6]), (3, 3, 77));
    let lds = run_with("ds_consume v5 offset:8", &mut wave, &memory, lds);
    assert_eq!(words(&lds), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(wave.row(5)[5], 6);
}

#[test]
fn lanes_address_by_their_number() {
    let memory = Memory::new(false, false);
    let mut wave = wave();
    wave.set_scalar(M0, 0xabcd_0008);
    run_with("ds_load_addtid_b32 v5 offset:16", &mut wave, &memory, bytes(0..64));
    assert_eq!(*wave.row(5), std::array::from_fn(|lane| lane as u32 + 6));
    wave.set_mask(EXEC, 0b101);
    let lds = run_with("ds_store_addtid_b32 v5 offset:16", &mut wave, &memory, vec![0; 256]);
    let expected: Vec<u32> = (0..64).map(|word| if word == 6 || word == 8 { word } else { 0 }).collect();
    assert_eq!(words(&lds), expected);

    let data: Vec<u8> = bytes(1000..1064);
    let address = memory.allocate(data.len()).unwrap();
    memory.write(address, &data).unwrap();
    let mut wave = super::wave();
    wave.set_scalar64(2, address);
    run_with("global_load_addtid_b32 v5, s[2:3] offset:16", &mut wave, &memory, Vec::new());
    assert_eq!(*wave.row(5), std::array::from_fn(|lane| lane as u32 + 1004));
    fill(&mut wave, &[(5, 9)]);
    wave.set_mask(EXEC, 0b10);
    run_with("global_store_addtid_b32 v5, s[2:3] offset:16", &mut wave, &memory, Vec::new());
    let mut read = vec![0; data.len()];
    memory.read(address, &mut read).unwrap();
    let expected: Vec<u32> = (1000..1064).map(|word| if word == 1005 { 9 } else { word }).collect();
    assert_eq!(words(&read), expected);
}

#[test]
fn marked_halves_are_exchanged() {
    let memory = Memory::new(false, false);
    // The data's sign bits mark what is replaced; the address is rounded down to 8 bytes.
    for (data, expected) in [
        (0x0000_0007_0000_0009, [1, 2]),
        (0x0000_0007_8000_0009, [9, 2]),
        (0x8000_0007_0000_0009, [1, 7]),
        (0xffff_ffff_8000_0000, [0, 0x7fff_ffff]),
    ] {
        let mut wave = wave();
        wave.set_mask(EXEC, 1);
        fill(&mut wave, &[(1, 13)]);
        fill64(&mut wave, &[(2, data)]);
        let lds = bytes([0, 0, 0, 0, 1, 2]);
        let lds = run_with("ds_condxchg32_rtn_b64 v[5:6], v1, v[2:3] offset:8", &mut wave, &memory, lds);
        assert_eq!(words(&lds)[4..], expected, "{data:#x}");
        assert_eq!(pair(&wave, 5, 0), 0x2_0000_0001, "{data:#x}");
    }
}

#[test]
fn one_word_is_given_to_groups_of_four() {
    let memory = Memory::new(false, false);
    let lds = bytes([0x8182_8384, 0x0102_0304]);
    for (m0, expected) in [
        (0x0_0001, 0x83),
        (0x1_0002, 0x8182),
        (0x2_0004, 0x0102_0304),
        (0x4_0001, 0xffff_ff83),
        (0x5_0002, 0xffff_8182),
    ] {
        let mut wave = wave();
        fill(&mut wave, &[(5, 1)]);
        wave.set_mask(EXEC, 0x0100_0020);
        wave.set_scalar(M0, m0);
        run_with("lds_direct_load v5 wait_vdst:0", &mut wave, &memory, lds.clone());
        let row: [u32; 32] =
            std::array::from_fn(|lane| if matches!(lane, 4..8 | 24..28) { expected } else { 1 });
        assert_eq!(*wave.row(5), row, "{m0:#x}");
    }
}

#[test]
fn buffers_load_to_lds() {
    let memory = Memory::new(false, false);
    let address = memory.allocate(256).unwrap();
    memory.write(address, &(0..=255).collect::<Vec<u8>>()).unwrap();
    let mut wave = wave();
    wave.set_mask(EXEC, 0b101);
    // A raw buffer of 160 bytes; M0 is where the wave's part of LDS starts.
    wave.set_scalar64(8, address);
    wave.set_scalar(10, 160);
    wave.set_scalar(11, 3 << 28 | 4 << 12);
    wave.set_scalar(3, 2);
    wave.set_scalar(M0, 8);
    let mut offsets = [0; 32];
    (offsets[0], offsets[2]) = (129, 130);
    wave.write_row(1, &offsets, u64::MAX);
    let untouched = |changed: [(usize, u32); 2]| {
        let mut words = vec![u32::MAX; 16];
        changed.into_iter().for_each(|(at, word)| words[at] = word);
        words
    };
    // Offset 4 in both memories, and 4 bytes of LDS for each lane.
    for (text, expected) in [
        ("buffer_load_lds_u8 off, s[8:11], s3 offset:4", [6, 6]),
        ("buffer_load_lds_i16 v1, s[8:11], s3 offen offset:4", [0xffff_8887, 0xffff_8988]),
        ("buffer_load_lds_b32 v1, s[8:11], s3 offen offset:4", [0x8a89_8887, 0x8b8a_8988]),
    ] {
        let lds = run_with(text, &mut wave, &memory, vec![0xff; 64]);
        assert!(wave.stop.is_none(), "{text}: {:?}", wave.stop);
        assert_eq!(words(&lds), untouched([(3, expected[0]), (5, expected[1])]), "{text}");
    }
    // A signed byte of each record, read as a float.
    wave.set_scalar(9, wave.scalar(9) | 1 << 16);
    wave.set_scalar(10, 131);
    wave.set_scalar(3, 0);
    wave.set_scalar(11, 4 << 12 | 4);
    let lds = run_with("buffer_load_lds_format_x v1, s[8:11], s3 idxen", &mut wave, &memory, vec![0xff; 64]);
    assert!(wave.stop.is_none(), "{:?}", wave.stop);
    assert_eq!(words(&lds), untouched([(2, (-127_f32).to_bits()), (4, (-126_f32).to_bits())]));
}

#[test]
fn sums_in_lds_obey_the_denormal_mode() {
    let memory = Memory::new(false, false);
    for (mode, expected) in [(0x3f0, 3), (0x3e0, 0), (0x3d0, 0), (0x3c0, 0)] {
        let mut wave = wave();
        wave.mode = crate::exec::mode::Mode(mode);
        wave.set_mask(EXEC, 1);
        fill(&mut wave, &[(1, 0), (2, 2)]);
        let lds = run_with("ds_add_f32 v1, v2", &mut wave, &memory, bytes([1]));
        assert_eq!(words(&lds), [expected], "{mode:#x}");
    }
}
