//! Buffers, views and what they refuse, on the CPU. On a machine with an AMD card, `auto` takes it.

use device_mem::{Device, DeviceBuffer, DeviceChoice};

fn main() -> Result<(), device_mem::MemError> {
    let opened = Device::open(DeviceChoice::Auto)?;
    println!("device: {}", opened.device);

    let mut buffer = DeviceBuffer::from_host_vec(&opened.device, vec![1.0_f32, 2.0, 3.0, 4.0])?;
    buffer.view_mut(1..3)?.copy_from_host(&[20.0, 30.0])?;
    println!("buffer: {:?}", buffer.to_host_vec()?);

    if let Err(error) = buffer.view(2..5) {
        println!("refused: {error}");
    }
    println!("moved: {:?}", opened.device.transfers());
    Ok(())
}
