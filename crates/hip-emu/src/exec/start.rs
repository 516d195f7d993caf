//! How a launch starts its waves.

use crate::{
    FaultKind, KernelDescriptor, LaunchFault,
    exec::{
        buffers::scratch_descriptor,
        group::Dispatched,
        mode::Mode,
        watch::Given,
        wave::{EXEC, SCALARS, TTMP, Wave, low},
    },
};

impl Dispatched<'_> {
    /// A wave as it starts, and which registers were filled.
    pub(super) fn wave<const L: usize>(&self, rows: usize, group: [u32; 3], number: u32) -> (Wave<L>, Given) {
        let lanes = u32::try_from(L).unwrap_or(u32::MAX);
        let items: u32 = self.block.iter().product();
        let mut wave = Wave::<L>::new(rows, self.scratch * L);
        wave.number = number;
        wave.pc = self.entry;
        let KernelDescriptor { resource1, resource2, .. } = *self.descriptor;
        wave.mode = Mode::initial(self.arch, resource1, resource2);
        if wave.mode.is_refused() {
            wave.fault(LaunchFault::new(FaultKind::Mode(wave.mode.visible()), None));
        }
        let scalars = self.initial_scalars::<L>(&mut wave.sgprs, group);
        let [width, height, _] = self.block;
        let first = number * lanes;
        let (mut x, mut y, mut z) = (first % width, first / width % height, first / width / height);
        let mut ids = [[0; L]; 3];
        let [first_row, second_row, third_row] = &mut ids;
        for ((own_x, own_y), own_z) in first_row.iter_mut().zip(second_row).zip(third_row) {
            (*own_x, *own_y, *own_z) = (x, y, z);
            if self.arch.packs_item_ids() {
                *own_x = x | y << 10 | z << 20;
            }
            x += 1;
            if x == width {
                (x, y) = (0, y + 1);
            }
            if y == height {
                (y, z) = (0, z + 1);
            }
        }
        let exec = u64::MAX >> (64 - u64::from(items - first).min(L as u64));
        let asked = usize::try_from(resource2 >> 11 & 3).unwrap_or(0);
        let rows = if self.arch.packs_item_ids() { 1 } else { 1 + asked.min(2) };
        for (register, row) in ids.iter().enumerate().take(rows) {
            wave.write_row(register, row, Wave::<L>::all_lanes());
        }
        wave.set_mask(EXEC, exec);
        (wave, Given { scalars, rows })
    }

    /// User registers, then the ids of the group. Gives a bit for each that was filled.
    fn initial_scalars<const L: usize>(&self, scalars: &mut [u32; SCALARS], group: [u32; 3]) -> u64 {
        let (mut next, mut filled) = (0, 0_u64);
        let [base, size] = scratch_descriptor(L);
        for value in self.descriptor.user_values() {
            let (bits, words) = match value {
                "dispatch_ptr" => (self.packet, 2),
                "kernarg_segment_ptr" => (self.arguments, 2),
                "dispatch_id" | "queue_ptr" | "flat_scratch_init" => (0, 2),
                "private_segment_size" => (self.scratch as u64, 1),
                _ => (base, 4),
            };
            for word in 0..words {
                scalars[next] = low(if word < 2 { bits } else { size } >> (32 * (word % 2)));
                filled |= 1 << next;
                next += 1;
            }
        }
        // Values that this list does not know would lie here.
        next = usize::try_from(self.descriptor.user_registers()).unwrap_or(next);
        let resource2 = self.descriptor.resource2;
        for (axis, &id) in group.iter().enumerate() {
            if self.arch.has_group_ids_in_scalars() && resource2 >> (7 + axis) & 1 != 0 {
                scalars[next] = id;
                filled |= 1 << next;
                next += 1;
            }
        }
        if self.arch.is_told_its_scratch() && resource2 & 1 != 0 {
            // Behind a word about the group lies the wave's offset in scratch: each wave has memory of its own.
            next += usize::try_from(resource2 >> 10 & 1).unwrap_or(0);
            scalars[next] = 0;
            filled |= 1 << next;
        }
        scalars[TTMP + 9] = group[0];
        scalars[TTMP + 7] = group[1] | group[2] << 16;
        filled
    }
}
