//! The memory of a GPU that has none of its own.

use std::fmt;
use std::fs;
use std::path::Path;

/// Where an integrated GPU's memory comes from, in bytes, as Linux counts it: a part of RAM that the firmware has set aside
/// (VRAM), and pages of RAM that the driver may lend (GTT), which other programs use too.
///
/// HIP reports one of these or their sum, depending on its version. A model is lost to the out-of-memory killer when GTT
/// has more room than RAM has, so they are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SharedMemory {
    /// RAM that is set aside for the GPU.
    pub vram_total: u64,
    /// What of that is taken.
    pub vram_used: u64,
    /// RAM that the driver may lend to the GPU.
    pub gtt_total: u64,
    /// What of that is lent.
    pub gtt_used: u64,
    /// RAM that programs can still have, `MemAvailable`.
    pub ram_available: u64,
}

impl SharedMemory {
    /// Reads the numbers of the card at bus and device number `pci`, of domain 0: `mem_info_*` of the amdgpu driver in
    /// `sys/bus/pci/devices`, and `proc/meminfo`, both below `root`, which is `/` but for tests. `None` where one is missing.
    pub fn read(root: &Path, pci: (u8, u8)) -> Option<SharedMemory> {
        let (bus, device) = pci;
        let card = root.join(format!("sys/bus/pci/devices/0000:{bus:02x}:{device:02x}.0"));
        let number = |name: &str| -> Option<u64> {
            fs::read_to_string(card.join(format!("mem_info_{name}"))).ok()?.trim().parse().ok()
        };
        Some(SharedMemory {
            vram_total: number("vram_total")?,
            vram_used: number("vram_used")?,
            gtt_total: number("gtt_total")?,
            gtt_used: number("gtt_used")?,
            ram_available: ram_available(&fs::read_to_string(root.join("proc/meminfo")).ok()?)?,
        })
    }

    /// What can be had: the rest of VRAM, and of GTT as much as RAM can give.
    pub fn room(&self) -> u64 {
        let vram = self.vram_total.saturating_sub(self.vram_used);
        let gtt = self.gtt_total.saturating_sub(self.gtt_used);
        vram.saturating_add(gtt.min(self.ram_available))
    }

    /// What stands in the way of having more.
    pub fn advice(&self) -> &'static str {
        if self.gtt_total.saturating_sub(self.gtt_used) < self.ram_available {
            "the driver lends no more RAM: raise the kernel's parameter ttm.pages_limit, in pages of 4096 bytes"
        } else {
            "RAM is short: close what uses it, or set less of it aside as VRAM in the firmware's settings"
        }
    }
}

impl fmt::Display for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &SharedMemory { vram_total, vram_used, gtt_total, gtt_used, ram_available } = self;
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "VRAM {} of {} MiB free, GTT {} of {} MiB free, RAM {} MiB available",
            mib(vram_total.saturating_sub(vram_used)),
            mib(vram_total),
            mib(gtt_total.saturating_sub(gtt_used)),
            mib(gtt_total),
            mib(ram_available)
        )
    }
}

/// `MemAvailable` of `/proc/meminfo`, which counts in units of 1024 bytes.
fn ram_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let units: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    units.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose card at c5:00.0 has 512 MiB of VRAM and 15.5 GiB of GTT.
    fn machine(ram_available_kib: u64) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let card = root.path().join("sys/bus/pci/devices/0000:c5:00.0");
        fs::create_dir_all(&card).unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        let numbers = [
            ("vram_total", 512 << 20),
            ("vram_used", 12 << 20),
            ("gtt_total", 15_872_u64 << 20),
            ("gtt_used", 872 << 20),
        ];
        for (name, number) in numbers {
            fs::write(card.join(format!("mem_info_{name}")), format!("{number}\n")).unwrap();
        }
        let meminfo =
            format!("MemTotal:       32000000 kB\nMemAvailable:   {ram_available_kib} kB\nBuffers: 1 kB\n");
        fs::write(root.path().join("proc/meminfo"), meminfo).unwrap();
        root
    }

    #[test]
    fn vram_gtt_and_ram_are_told_apart() {
        let memory = SharedMemory::read(machine(20 << 20).path(), (0xc5, 0)).unwrap();
        assert_eq!(
            memory.to_string(),
            "VRAM 500 of 512 MiB free, GTT 15000 of 15872 MiB free, RAM 20480 MiB available"
        );
        assert_eq!(memory.room(), 15_500 << 20);
        assert!(memory.advice().contains("ttm.pages_limit"));
    }

    #[test]
    fn ram_bounds_what_is_lent() {
        let memory = SharedMemory::read(machine(4 << 20).path(), (0xc5, 0)).unwrap();
        assert_eq!(memory.room(), 4596 << 20);
        assert!(memory.advice().contains("RAM is short"));
    }

    #[test]
    fn what_is_missing_or_no_number_gives_nothing() {
        let root = machine(1);
        assert_eq!(SharedMemory::read(root.path(), (0xc6, 0)), None);
        fs::write(root.path().join("proc/meminfo"), "MemAvailable: many kB\n").unwrap();
        assert_eq!(SharedMemory::read(root.path(), (0xc5, 0)), None);
    }
}
