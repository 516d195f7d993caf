use anyhow::Result;
use device_mem::{Device, DeviceBuffer, Element, Float};

/// One kernel on one set of operands.
pub(crate) struct Case {
    /// The kernel's family and what picks one of it: `linear bf16`.
    pub(crate) kernel: String,
    /// Its operands' shapes.
    pub(crate) operands: String,
    /// The result on a device, as bits.
    pub(crate) run: Run,
    pub(crate) truth: Truth,
}

type Run = Box<dyn Fn(&Device) -> Result<Vec<u32>>>;

/// What a result must be.
pub(crate) enum Truth {
    /// The CPU's, bit for bit.
    Cpu,
    /// For f32 results whose sums have another order than the CPU's: each within a bound of its value in f64.
    Bounds(Vec<Bound>),
}

#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) exact: f64,
    pub(crate) error: f64,
}

/// How a case came out.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) kernel: String,
    pub(crate) operands: String,
    pub(crate) values: usize,
    pub(crate) found: Found,
}

#[derive(Debug)]
pub(crate) enum Found {
    /// Values that are not the CPU's bit for bit.
    Differing(usize),
    /// The worst error as a share of its bound; infinite for one that is no number.
    OfBound(f64),
}

impl Outcome {
    pub(crate) fn passed(&self) -> bool {
        match self.found {
            Found::Differing(differing) => differing == 0,
            Found::OfBound(worst) => worst <= 1.0,
        }
    }
}

impl Case {
    /// Runs the case on `device` and compares.
    pub(crate) fn outcome(&self, device: &Device) -> Result<Outcome> {
        let Case { kernel, operands, run, truth } = self;
        let result = run(device)?;
        let found = match truth {
            Truth::Cpu => {
                let expected = run(&Device::Cpu)?;
                let missing = expected.len().abs_diff(result.len());
                let differing = expected.iter().zip(&result).filter(|(expected, bits)| expected != bits);
                Found::Differing(differing.count() + missing)
            }
            Truth::Bounds(bounds) if bounds.len() != result.len() => Found::OfBound(f64::INFINITY),
            Truth::Bounds(bounds) => Found::OfBound(worst(bounds, &result)),
        };
        let (kernel, operands) = (kernel.clone(), operands.clone());
        Ok(Outcome { kernel, operands, values: result.len(), found })
    }
}

fn worst(bounds: &[Bound], result: &[u32]) -> f64 {
    let shares = bounds.iter().zip(result).map(|(bound, &bits)| {
        let error = (f64::from(f32::from_bits(bits)) - bound.exact).abs();
        if error.is_nan() { f64::INFINITY } else { error / bound.error.max(f64::MIN_POSITIVE) }
    });
    shares.fold(0.0, f64::max)
}

/// Numbers in `[-1, 1)` that are the same everywhere: the finalizer of MurmurHash3 (Appleby) over place and seed.
pub(crate) fn uniform(seed: u32, len: usize) -> Vec<f32> {
    let number = |index: u32| {
        let mut mixed = index ^ seed.wrapping_mul(0x9e37_79b9);
        mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x85eb_ca6b);
        mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
        mixed ^= mixed >> 16;
        // 24 bits fit a f32.
        (mixed >> 8) as f32 / (1_u32 << 23) as f32 - 1.0
    };
    (0_u32..).take(len).map(number).collect()
}

pub(crate) fn upload<T: Element>(device: &Device, values: &[T]) -> Result<DeviceBuffer<T>> {
    Ok(DeviceBuffer::from_host_vec(device, values.to_vec())?)
}

pub(crate) fn upload_as<T: Float>(device: &Device, values: &[f32]) -> Result<DeviceBuffer<T>> {
    let values = values.iter().map(|&value| T::from_f32(value)).collect();
    Ok(DeviceBuffer::from_host_vec(device, values)?)
}

/// An output before it is written: no result of a case.
pub(crate) fn unwritten(device: &Device, len: usize) -> Result<DeviceBuffer<f32>> {
    upload(device, &vec![-77.25; len])
}

/// A buffer's elements, widened to f32, as bits.
pub(crate) fn bits<T: Float>(buffer: &DeviceBuffer<T>) -> Result<Vec<u32>> {
    Ok(buffer.to_host_vec()?.iter().map(|value| value.to_f32().to_bits()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(cpu: &[f32], device: &[f32], truth: Truth) -> Outcome {
        let (cpu, other) = (cpu.to_vec(), device.to_vec());
        let run = move |device: &Device| {
            let values = if matches!(device, Device::Cpu) { &cpu } else { &other };
            Ok(values.iter().map(|value| value.to_bits()).collect())
        };
        let emulated = Device::from_api(hip_emu::api(), 0).unwrap();
        let case = Case { kernel: String::new(), operands: String::new(), run: Box::new(run), truth };
        case.outcome(&emulated).unwrap()
    }

    #[test]
    fn a_wrong_bit_is_counted() {
        assert!(case(&[1.0, 2.0], &[1.0, 2.0], Truth::Cpu).passed());
        for wrong in [&[1.0, 2.000_000_2][..], &[-0.0, 2.0], &[1.0], &[1.0, f32::NAN]] {
            let outcome = case(&[1.0, 2.0], wrong, Truth::Cpu);
            assert!(matches!(outcome.found, Found::Differing(1)) && !outcome.passed(), "{outcome:?}");
        }
    }

    #[test]
    fn an_error_is_told_as_a_share_of_its_bound() {
        let bounds =
            || Truth::Bounds(vec![Bound { exact: 1.0, error: 0.5 }, Bound { exact: 2.0, error: 0.25 }]);
        let passed = case(&[], &[1.25, 2.0], bounds());
        assert!(matches!(passed.found, Found::OfBound(0.5)) && passed.passed(), "{passed:?}");
        let failed = case(&[], &[1.0, 2.5], bounds());
        assert!(matches!(failed.found, Found::OfBound(2.0)) && !failed.passed(), "{failed:?}");
        for bad in [&[1.0][..], &[1.0, f32::NAN], &[f32::INFINITY, 2.0]] {
            assert!(!case(&[], bad, bounds()).passed());
        }
    }
}
