//! Rows of f32 to bytes.

use half::{bf16, f16};
use rayon::prelude::*;

use super::Stored;

/// From here on no block format holds a number: 2^27. The largest scale of an f16 on the most levels gives 2.7e8.
const LIMIT: f32 = 134_217_728.0;

/// Writes finite rows of `columns` elements to `out`, which gets their length. Each row is a task of its own.
///
/// # Errors
/// The largest of the elements, when it is beyond what `stored` holds.
pub(super) fn rows(values: &[f32], columns: usize, stored: Stored, out: &mut Vec<u8>) -> Result<(), f32> {
    let row_bytes = stored.row_bytes(columns);
    out.clear();
    out.resize(values.len() / columns * row_bytes, 0);
    let rows = out.par_chunks_exact_mut(row_bytes).zip(values.par_chunks_exact(columns));
    let fits = rows.map(|(out, x)| row(x, stored, out)).reduce(|| true, |left, right| left && right);
    if fits { Ok(()) } else { Err(values.iter().copied().fold(0.0, larger)) }
}

fn larger(so_far: f32, value: f32) -> f32 {
    if value.abs() > so_far.abs() { value } else { so_far }
}

/// Writes one row, and tells whether all of it could be held.
fn row(x: &[f32], stored: Stored, out: &mut [u8]) -> bool {
    match stored {
        Stored::F32 => {
            out.as_chunks_mut().0.iter_mut().zip(x).for_each(|(out, x)| *out = x.to_le_bytes());
            true
        }
        Stored::F16 => halves(x, out, |x| (f16::from_f32(x).to_le_bytes(), f16::from_f32(x).is_finite())),
        Stored::BF16 => halves(x, out, |x| (bf16::from_f32(x).to_le_bytes(), bf16::from_f32(x).is_finite())),
        Stored::Blocks(block) => {
            let small = x.iter().all(|x| x.abs() < LIMIT);
            small && block.quantize(x, out).is_ok() && block.is_finite(out)
        }
    }
}

fn halves(x: &[f32], out: &mut [u8], round: impl Fn(f32) -> ([u8; 2], bool)) -> bool {
    let mut all = true;
    for (out, &x) in out.as_chunks_mut().0.iter_mut().zip(x) {
        let finite;
        (*out, finite) = round(x);
        all &= finite;
    }
    all
}

#[cfg(test)]
mod tests {
    use kernels_nn::BlockType;

    use super::{Stored, rows};

    #[test]
    fn what_a_type_cannot_hold_is_told() {
        let holds = |stored, value: f32| {
            let mut x = vec![1.0; 512];
            x[300] = value;
            let mut out = Vec::new();
            rows(&x, 256, stored, &mut out).map(|()| out.len())
        };
        assert_eq!(holds(Stored::F32, 3e38), Ok(2048));
        assert_eq!(holds(Stored::F16, 65504.0), Ok(1024));
        assert_eq!(holds(Stored::F16, -65520.0), Err(-65520.0));
        assert_eq!(holds(Stored::BF16, 3.39e38), Ok(1024));
        assert_eq!(holds(Stored::BF16, f32::MAX), Err(f32::MAX));
        for block in BlockType::ALL {
            assert_eq!(holds(Stored::Blocks(block), 1e5), Ok(512 / block.block_len() * block.block_bytes()));
            for large in [3e8, 1e10, -1e13, 3e38] {
                assert_eq!(holds(Stored::Blocks(block), large), Err(large), "{block}");
            }
        }
    }
}
