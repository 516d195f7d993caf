//! The HIP side on a table that this test fills: what is called, what is counted, and what happens when a call fails.

#![expect(clippy::unwrap_used, reason = "a call that fails fails its test")]

mod fake;
mod faults;
mod graphs;
mod waits;

use std::sync::Arc;
use std::thread;

use device_mem::doctor::{self, Status};
use device_mem::{Device, DeviceBuffer, Grid, HipDevice, Kernel, MemError, RanOn, Transfers};
use hip_ffi::ErrorClass;
use hip_ffi::sys::hipError_t;
use hsaco::{Aligned, HsacoError, Image, ImageSet, KernelArgs, KernelPointer};

hsaco::kernel! {
    /// `y[i] = factor * x[i]`.
    struct ScaleArgs: "scale" => [scale], variable "SCALE_HSACO", max_block 256 {
        y: KernelPointer,
        x: KernelPointer,
        factor: f32,
        length: u64,
    }
}

static GFX1100: &Aligned<[u8]> = &Aligned(*include_bytes!("../../../hsaco/tests/images/scale.gfx1100.elf"));

const IMAGES: ImageSet = ImageSet {
    decl: ScaleArgs::DECL,
    images: &[Image { arch: "gfx1100", bytes: &GFX1100.0, sha256: "", compiler: "" }],
};

const ONE_BLOCK: Grid = Grid { blocks: [1, 1, 1], threads: [64, 1, 1] };

fn open() -> Device {
    Device::from_api(fake::api(), 0).unwrap()
}

fn hip(device: &Device) -> &Arc<HipDevice> {
    let Device::Hip(hip) = device else { panic!("{device} is no HIP device") };
    hip
}

/// `y = factor * x`, over all of `x`.
fn scale(
    kernel: &Kernel<ScaleArgs>,
    grid: Grid,
    y: &mut DeviceBuffer<f32>,
    x: &DeviceBuffer<f32>,
    factor: f32,
) -> Result<(), MemError> {
    let (device_mem::ViewMut::Hip(mut y), device_mem::View::Hip(x)) = (y.as_view_mut()?, x.as_view()) else {
        panic!("a buffer is not on the device")
    };
    assert!(x.len() <= y.len());
    let args = ScaleArgs { y: y.pointer(), x: x.pointer(), factor, length: x.len() as u64 };
    // SAFETY: both buffers are of this device and hold `length` elements; `y` is borrowed for writing.
    unsafe { kernel.launch(grid, 2 * x.bytes(), &args) }
}

#[test]
fn opening_reads_what_the_device_is_in_both_layouts() {
    for api in [fake::api(), fake::legacy_api()] {
        fake::with(|fake| fake.arch = "gfx90a:sramecc+:xnack-");
        let device = Device::from_api(api, 0).unwrap();
        let properties = hip(&device).properties();
        assert_eq!(
            (properties.name.as_str(), properties.arch.as_str()),
            ("a card", "gfx90a:sramecc+:xnack-")
        );
        assert_eq!((properties.wavefront_size, properties.max_block), (32, 128));
        assert_eq!(properties.total_memory, 1 << 30);
        assert_eq!(device.free_memory().unwrap(), Some(1 << 29));
        assert_eq!(device.to_string(), "hip:0 (a card, gfx90a:sramecc+:xnack-)");
    }
}

#[test]
fn an_integrated_device_is_known_by_its_place_on_the_bus() {
    assert_eq!(hip(&open()).properties().integrated_at, None);
    fake::with(|fake| fake.integrated = true);
    let device = open();
    assert_eq!(hip(&device).properties().integrated_at, Some((0xfe, 0x1f)));
    // The operating system knows no such card, so HIP's number stands.
    assert_eq!((device.shared_memory(), device.free_memory().unwrap()), (None, Some(1 << 29)));
}

#[test]
fn a_device_that_is_not_there_is_unavailable() {
    let error = Device::from_api(fake::api(), 1).unwrap_err();
    assert!(matches!(error, MemError::Ordinal { ordinal: 1, visible: 1 }), "{error}");
    assert_eq!(error.class(), Some(ErrorClass::Unavailable));

    for (call, code) in [
        ("hipInit", hipError_t::hipErrorInvalidDevice),
        ("hipInit", hipError_t::hipErrorUnknown),
        ("hipGetDeviceCount", hipError_t::hipErrorNoDevice),
    ] {
        fake::fail(call, 1, code);
        let error = Device::from_api(fake::api(), 0).unwrap_err();
        assert_eq!(error.class(), Some(ErrorClass::Unavailable));
        assert!(matches!(error, MemError::Hip { source, .. } if source.call == call && source.code == code));
    }
    assert_eq!(fake::with(|fake| fake.handles), 0);
}

#[test]
fn elements_go_up_and_come_back_and_each_copy_is_counted() {
    let device = open();
    let mut expected = Transfers::default();
    assert_eq!(device.transfers(), expected);

    let mut buffer = DeviceBuffer::from_host_vec(&device, vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
    (expected.allocations, expected.uploads, expected.uploaded_bytes) = (1, 1, 16);
    expected.synchronisations = 1;
    assert_eq!(device.transfers(), expected);

    buffer.view_mut(1..3).unwrap().copy_from_host(&[20.0, 30.0]).unwrap();
    (expected.uploads, expected.uploaded_bytes, expected.synchronisations) = (2, 24, 2);
    assert_eq!(device.transfers(), expected);

    assert_eq!(buffer.view(2..4).unwrap().to_host_vec().unwrap(), [30.0, 4.0]);
    (expected.downloads, expected.downloaded_bytes, expected.synchronisations) = (1, 8, 3);
    assert_eq!(device.transfers(), expected);

    let copy = buffer.try_clone().unwrap();
    expected.allocations = 2;
    assert_eq!(device.transfers(), expected);
    drop(buffer);
    assert_eq!(copy.to_host_vec().unwrap(), [1.0, 20.0, 30.0, 4.0]);

    assert_eq!(DeviceBuffer::<u32>::zeroed(&device, 3).unwrap().to_host_vec().unwrap(), [0; 3]);
}

#[test]
fn everything_goes_through_the_table_in_order() {
    let device = open();
    let calls = fake::calls_of(|| {
        let buffer = DeviceBuffer::from_host_vec(&device, vec![1.0_f32]).unwrap();
        buffer.to_host_vec().unwrap();
    });
    let with_binding = |calls: &[&'static str]| {
        let mut all = vec!["hipSetDevice"];
        all.extend(calls);
        all
    };
    let expected = [
        with_binding(&["hipMalloc"]),
        with_binding(&["hipStreamQuery", "hipMemcpyAsync", "hipStreamQuery", "hipStreamSynchronize"]),
        with_binding(&["hipStreamQuery", "hipMemcpyAsync", "hipStreamQuery", "hipStreamSynchronize"]),
        with_binding(&["hipStreamQuery", "hipFree"]),
    ];
    assert_eq!(calls, expected.concat());
    let closing = fake::calls_of(|| drop(device));
    assert_eq!(closing, ["hipSetDevice", "hipStreamQuery", "hipStreamDestroy"]);
}

#[test]
fn nothing_is_called_for_no_elements() {
    let device = open();
    let calls = fake::calls_of(|| {
        let mut buffer = DeviceBuffer::from_host_vec(&device, Vec::<f32>::new()).unwrap();
        buffer.as_view_mut().unwrap().copy_from_host(&[]).unwrap();
        assert!(buffer.try_clone().unwrap().to_host_vec().unwrap().is_empty());
        assert!(DeviceBuffer::<f32>::zeroed(&device, 0).unwrap().is_empty());
    });
    assert!(calls.is_empty(), "{calls:?}");
    assert_eq!(device.transfers(), Transfers::default());
}

#[test]
fn ranges_outside_and_uncountable_lengths_are_refused_before_hip() {
    let device = open();
    let mut buffer = DeviceBuffer::<f32>::zeroed(&device, 4).unwrap();
    let calls = fake::calls_of(|| {
        #[expect(clippy::reversed_empty_ranges, reason = "callers may compute one")]
        for range in [0..5, 5..5, 3..2, 0..usize::MAX] {
            assert!(matches!(buffer.view(range.clone()), Err(MemError::OutOfRange { len: 4, .. })));
            assert!(matches!(buffer.view_mut(range), Err(MemError::OutOfRange { len: 4, .. })));
        }
        let error = DeviceBuffer::<f32>::zeroed(&device, usize::MAX / 2).unwrap_err();
        assert!(matches!(error, MemError::TooLarge { .. }), "{error}");
    });
    assert!(calls.is_empty(), "{calls:?}");
}

#[test]
fn every_operation_binds_the_device_to_its_thread() {
    let device = open();
    let kernel = Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap();
    let on_another_thread = |run: &(dyn Fn() + Sync)| {
        thread::scope(|scope| {
            let calls = scope.spawn(|| fake::calls_of(run)).join().unwrap();
            assert_eq!(calls.first(), Some(&"hipSetDevice"), "{calls:?}");
            assert!(calls.len() > 1, "{calls:?}");
        });
    };
    // Each thread has a runtime of its own, so what is made there is used there.
    on_another_thread(&|| drop(DeviceBuffer::<f32>::zeroed(&device, 2).unwrap()));
    on_another_thread(&|| device.synchronize().unwrap());
    on_another_thread(&|| {
        let mut y = DeviceBuffer::<f32>::zeroed(&device, 2).unwrap();
        fake::with(|fake| fake.bound = None);
        let x = y.try_clone().unwrap();
        fake::with(|fake| fake.bound = None);
        scale(&kernel, ONE_BLOCK, &mut y, &x, 1.0).unwrap();
        fake::with(|fake| fake.bound = None);
        y.to_host_vec().unwrap();
        fake::with(|fake| fake.bound = None);
        drop((x, y));
        assert!(fake::with(|fake| fake.memory.is_empty()));
    });
}

#[test]
fn a_launch_carries_each_argument_and_is_all_that_is_counted() {
    let device = open();
    let kernel = Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap();
    let x = DeviceBuffer::from_host_vec(&device, vec![1.0_f32, 2.0, 3.0]).unwrap();
    let mut y = DeviceBuffer::<f32>::zeroed(&device, 4).unwrap();
    let mut expected = device.transfers();
    let grid = Grid { blocks: [3, 2, 1], threads: [4, 2, 1] };
    let calls = fake::calls_of(|| scale(&kernel, grid, &mut y, &x, 0.5).unwrap());
    assert_eq!(calls, ["hipSetDevice", "hipModuleLaunchKernel"]);
    expected.launches += 1;
    assert_eq!(device.transfers(), expected);
    assert_eq!(y.to_host_vec().unwrap(), [0.5, 1.0, 1.5, 0.0]);
    let launches = fake::with(|fake| std::mem::take(&mut fake.launches));
    assert_eq!(launches, [(String::from("scale"), [3, 2, 1], [4, 2, 1])]);
}

#[test]
fn an_image_is_loaded_once_and_unloaded_with_the_device() {
    let device = open();
    let load = || Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap();
    let calls = fake::calls_of(|| drop((load(), load())));
    assert_eq!(calls.iter().filter(|call| **call == "hipModuleLoadData").count(), 1, "{calls:?}");
    let kernel = load();
    drop(device);
    assert_eq!(fake::with(|fake| fake.handles), 2, "the kernel holds module and stream");
    drop(kernel);
    assert_eq!(fake::with(|fake| fake.handles), 0);
}

#[test]
fn an_image_that_does_not_fit_never_reaches_hip() {
    fake::with(|fake| fake.arch = "gfx1201");
    let (device, mut errors) = (open(), Vec::new());
    let calls = fake::calls_of(|| {
        errors.push(Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap_err());
    });
    fake::with(|fake| fake.arch = "gfx1100");
    let device = open();
    let truncated: &'static [u8] = &GFX1100.0[..4000];
    let images = Vec::from([Image { bytes: truncated, ..IMAGES.images[0] }]).leak();
    let calls_after = fake::calls_of(|| {
        let broken = ImageSet { images, ..IMAGES };
        errors.push(Kernel::<ScaleArgs>::load(hip(&device), &broken, "scale").unwrap_err());
        errors.push(Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "reverse").unwrap_err());
    });
    assert!(calls.is_empty() && calls_after.is_empty(), "{calls:?} {calls_after:?}");
    assert!(matches!(&errors[0], MemError::Image { source: HsacoError::NoImage { .. } }), "{:?}", errors[0]);
    assert!(matches!(&errors[1], MemError::Image { source: HsacoError::BadElf { .. } }), "{:?}", errors[1]);
    assert!(matches!(errors[2], MemError::Symbol { symbol: "reverse" }), "{:?}", errors[2]);
    assert!(errors.iter().all(|error| error.class() == Some(ErrorClass::Refused)));
}

#[test]
fn an_image_of_another_declaration_is_checked_though_its_family_is_loaded() {
    hsaco::kernel! {
        /// The same kernel, its arguments declared wrongly.
        struct OtherArgs: "scale" => [scale], variable "SCALE_HSACO", max_block 256 { y: KernelPointer }
    }
    let device = open();
    Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap();
    let other = ImageSet { decl: OtherArgs::DECL, ..IMAGES };
    let error = Kernel::<OtherArgs>::load(hip(&device), &other, "scale").unwrap_err();
    assert!(matches!(error, MemError::Image { .. }), "{error:?}");
}

#[test]
fn launches_keep_their_limits() {
    let device = open();
    let kernel = Kernel::<ScaleArgs>::load(hip(&device), &IMAGES, "scale").unwrap();
    let x = DeviceBuffer::<f32>::zeroed(&device, 1).unwrap();
    let mut y = x.try_clone().unwrap();
    // The device allows 128 threads, fewer than the kernel.
    for (blocks, threads) in [
        ([1, 1, 1], [129, 1, 1]),
        ([1, 1, 1], [64, 2, 2]),
        ([1, 1, 1], [0, 1, 1]),
        ([1, 1, 1], [1 << 16, 1 << 16, 1]),
        ([0, 1, 1], [64, 1, 1]),
        ([1, 0, 1], [64, 1, 1]),
        ([1 << 26, 1, 1], [64, 1, 1]),
        ([1, u32::MAX, 1], [1, 2, 1]),
    ] {
        let calls = fake::calls_of(|| {
            let error = scale(&kernel, Grid { blocks, threads }, &mut y, &x, 1.0).unwrap_err();
            assert!(matches!(error, MemError::Grid { max_block: 128, .. }), "{error}");
            assert_eq!(error.class(), Some(ErrorClass::Refused));
        });
        assert!(calls.is_empty(), "{calls:?}");
    }
    let largest = Grid { blocks: [(1 << 25) - 1, 1, 1], threads: [128, 1, 1] };
    scale(&kernel, largest, &mut y, &x, 1.0).unwrap();
    assert_eq!(device.transfers().launches, 1);
}

#[test]
fn two_devices_are_two_even_with_one_table() {
    fake::with(|fake| fake.devices = 2);
    let (first, second) = (open(), Device::from_api(fake::api(), 1).unwrap());
    assert!(first.same(&first.clone()) && !first.same(&second) && !first.same(&Device::Cpu));
    assert!(matches!(first.expect_same(&second), Err(MemError::ForeignDevice { .. })));
    let buffer = DeviceBuffer::<f32>::zeroed(&second, 1).unwrap();
    assert_eq!(fake::with(|fake| fake.bound), Some(1));
    assert!(buffer.device().same(&second) && first.transfers() == Transfers::default());
    assert_eq!(RanOn::Hip.to_string(), "hip");
}

#[test]
fn the_doctor_opens_each_device_and_tells_why_one_cannot() {
    fake::with(|fake| fake.devices = 2);
    let checks = doctor::devices(&fake::api());
    let found: Vec<_> = checks.iter().map(|check| (check.status, check.found.as_str())).collect();
    let expected =
        ["hip:0 (a card, gfx1100), wave 32, 1024 MiB", "hip:1 (a card, gfx1100), wave 32, 1024 MiB"];
    assert_eq!(found, expected.map(|text| (Status::Ok, text)));
    assert_eq!(fake::with(|fake| fake.handles), 0, "nothing stays open");

    fake::fail("hipMemGetInfo", 1, hipError_t::hipErrorUnknown);
    let checks = doctor::devices(&fake::api());
    assert_eq!((checks[0].status, checks[1].status), (Status::Fail, Status::Ok));
    assert!(
        checks[0].found.starts_with("hip:0: ") && checks[0].found.contains("hipMemGetInfo"),
        "{checks:?}"
    );

    fake::with(|fake| fake.devices = 0);
    let checks = doctor::devices(&fake::api());
    assert_eq!((checks.len(), checks[0].status), (1, Status::Fail));
    assert!(checks[0].advice.is_some());
}
