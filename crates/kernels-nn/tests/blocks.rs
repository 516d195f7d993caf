//! The block formats: sizes, names, refusals, and elements worked out by hand.

use kernels_nn::{BlockType, NnError};

#[test]
fn sizes_and_names_are_those_of_ggml() {
    let known = [
        (BlockType::Q8_0, 32, 34, "Q8_0"),
        (BlockType::Q4_0, 32, 18, "Q4_0"),
        (BlockType::Q5_0, 32, 22, "Q5_0"),
        (BlockType::Q5_1, 32, 24, "Q5_1"),
        (BlockType::Q4_K, 256, 144, "Q4_K"),
        (BlockType::Q5_K, 256, 176, "Q5_K"),
        (BlockType::Q6_K, 256, 210, "Q6_K"),
    ];
    assert_eq!(known.map(|(block, ..)| block), BlockType::ALL);
    for (block, len, bytes, name) in known {
        assert_eq!((block.block_len(), block.block_bytes(), block.name()), (len, bytes, name));
        assert_eq!(name.parse::<BlockType>().unwrap(), block);
        assert_eq!(name.to_lowercase().parse::<BlockType>().unwrap(), block);
        assert_eq!(block.to_string(), name);
    }
    assert!(matches!("Q3_K".parse::<BlockType>(), Err(NnError::BlockName { found }) if found == "Q3_K"));
}

#[test]
fn other_lengths_are_refused_and_change_nothing() {
    for block in BlockType::ALL {
        let (len, bytes) = (block.block_len(), block.block_bytes());
        for (given, wanted) in
            [(bytes - 1, len), (bytes + 1, len), (bytes, len - 1), (2 * bytes, len), (0, len)]
        {
            let mut out = vec![7.0; wanted];
            let refused = block.dequantize(&vec![0; given], &mut out);
            assert!(
                matches!(refused, Err(NnError::BlockLength { bytes, elements, .. }) if bytes == given && elements == wanted)
            );
            assert!(out.iter().all(|&element| element == 7.0));
        }
        block.dequantize(&[], &mut []).unwrap();
    }
}

/// 1.0 in f16, little-endian.
const ONE: [u8; 2] = [0, 0x3c];

#[test]
fn q8_0_by_hand() {
    let mut block = [0_u8; 34];
    block[..2].copy_from_slice(&ONE);
    block[2] = 0x80;
    block[33] = 127;
    let mut out = [9.0; 32];
    BlockType::Q8_0.dequantize(&block, &mut out).unwrap();
    assert_eq!((out[0], out[1], out[31]), (-128.0, 0.0, 127.0));
}

#[test]
fn q4_0_by_hand() {
    let mut block = [0x88_u8; 18];
    block[..2].copy_from_slice(&ONE);
    block[2] = 0xf0;
    let mut out = [9.0; 32];
    BlockType::Q4_0.dequantize(&block, &mut out).unwrap();
    assert_eq!((out[0], out[1], out[16], out[17]), (-8.0, 0.0, 7.0, 0.0));
}

#[test]
fn k_formats_by_hand() {
    // Scale 1, minima's scale 1; group 0: scale 2, minimum 3; group 7: scale 16 + 5, minimum 32 + 6.
    let mut head = [0_u8; 16];
    head[..2].copy_from_slice(&ONE);
    head[2..4].copy_from_slice(&ONE);
    head[4] = 2;
    head[8] = 3;
    (head[4 + 3], head[4 + 7], head[4 + 11]) = (1 << 6, 2 << 6, 6 << 4 | 5);
    let mut out = [9.0; 256];

    let mut q4_k = [0_u8; 144];
    q4_k[..16].copy_from_slice(&head);
    q4_k[16] = 15;
    q4_k[143] = 0xa0;
    BlockType::Q4_K.dequantize(&q4_k, &mut out).unwrap();
    assert_eq!((out[0], out[1], out[32], out[255]), (27.0, -3.0, 0.0, 210.0 - 38.0));

    let mut q5_k = [0_u8; 176];
    q5_k[..16].copy_from_slice(&head);
    q5_k[16] = 1;
    q5_k[16 + 31] = 1 << 7;
    q5_k[48] = 15;
    q5_k[175] = 0xa0;
    BlockType::Q5_K.dequantize(&q5_k, &mut out).unwrap();
    assert_eq!((out[0], out[1], out[32], out[255]), (59.0, -3.0, 0.0, 21.0 * 26.0 - 38.0));

    let mut q6_k = [0_u8; 210];
    q6_k[208..].copy_from_slice(&ONE);
    q6_k[192] = 2;
    q6_k[207] = 0xff;
    q6_k[0] = 7;
    q6_k[128] = 3;
    q6_k[127] = 0x50;
    q6_k[191] = 2 << 6;
    BlockType::Q6_K.dequantize(&q6_k, &mut out).unwrap();
    assert_eq!((out[0], out[1], out[255], out[254]), (46.0, -64.0, -5.0, 32.0));
}
