//! Looks into AMDGPU code objects, and runs their kernels: `hip-emu disasm`, `hip-emu info`, `hip-emu run`.

mod cli;

fn main() -> anyhow::Result<()> {
    cli::main()
}
