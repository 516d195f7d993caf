//! A launch from the shell: `hip-emu run`.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use hip_emu::{
    Checks, Counters, Dispatch, KernelDescriptor, LaunchError, Machine, Occupancy, Options, Program,
};
use hsaco::{CodeObject, KernelInfo};
use serde_json::{Value, json};

use crate::cli::{
    argument::{Argument, Buffer, FORMS, Output, expected},
    element::Element,
    read,
};

/// What to launch, and how.
#[derive(Args)]
#[command(after_long_help = FORMS)]
pub(super) struct Launch {
    /// A linked code object, bare or in a bundle.
    file: PathBuf,
    /// The kernel; not needed when there is only one.
    #[arg(long)]
    kernel: Option<String>,
    /// Work-groups in x, y and z: not work-items. What is left out is 1.
    #[arg(long, value_name = "X,Y,Z", value_parser = sizes)]
    grid: [u32; 3],
    /// Work-items of a work-group in x, y and z. What is left out is 1.
    #[arg(long, value_name = "X,Y,Z", value_parser = sizes)]
    block: [u32; 3],
    /// LDS of a work-group beside what the kernel declares.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    lds: u32,
    /// What to look for: memory, init, race, sync, align between commas, or all. HIP_EMU_CHECK if not given.
    #[arg(long, value_name = "CHECKS")]
    check: Option<Checks>,
    /// Counts instructions by kind, the memory traffic and the occupancy.
    #[arg(long)]
    count: bool,
    /// Lists the operations that ran whose low bits hardware does not specify.
    #[arg(long)]
    fidelity: bool,
    /// Moves the results of those by one unit in the last place or not at all, as the seed chooses; 0 moves none.
    /// HIP_EMU_PERTURB if not given.
    #[arg(long, value_name = "SEED")]
    perturb: Option<u64>,
    /// An argument, such as f32:1.5 or in:f32:1,2,3; --help tells the forms.
    #[arg(long = "arg", value_name = "ARGUMENT")]
    arguments: Vec<Argument>,
    /// Elements of each buffer that are printed.
    #[arg(long, value_name = "COUNT", default_value_t = 32)]
    show: usize,
    /// Prints one JSON object with all elements. What JSON has no number for is text: "NaN", "inf", "-inf".
    #[arg(long, conflicts_with = "show")]
    json: bool,
}

/// Three sizes, of which the last ones may be left out.
fn sizes(text: &str) -> Result<[u32; 3], String> {
    let refused = || format!("`{text}` is not one to three numbers between commas");
    let mut sizes = [1; 3];
    let numbers: Vec<&str> = text.split(',').collect();
    if numbers.len() > sizes.len() {
        return Err(refused());
    }
    for (size, number) in sizes.iter_mut().zip(numbers) {
        *size = number.trim().parse().map_err(|_| refused())?;
    }
    Ok(sizes)
}

/// A buffer that is told after the run.
struct Told<'a> {
    index: usize,
    name: Option<&'a str>,
    element: Element,
    output: &'a Output,
    address: u64,
    bytes: Vec<u8>,
}

impl Launch {
    /// Runs the kernel, and gives the report.
    pub(super) fn run(&self) -> Result<String> {
        let image = read(&self.file)?;
        let machine = Machine::new(self.options(&image)?);
        let program = machine.load(&image).with_context(|| format!("cannot load {}", self.file.display()))?;
        let kernel = self.kernel(&program)?;
        self.check(kernel)?;
        let (packed, mut told) = self.pack(&machine, kernel)?;
        let dispatch = Dispatch { groups: self.grid, block: self.block, dynamic_lds: self.lds };
        let report = machine
            .launch(&program, &kernel.name, &dispatch, &packed)
            // A launch's error tells its cause itself.
            .map_err(|error| anyhow!(error.to_string()))?;
        let counts = match &report.counters {
            Some(counters) => self.counts(&image, kernel, counters)?,
            None => Vec::new(),
        };
        for buffer in &mut told {
            machine.memory().read(buffer.address, &mut buffer.bytes)?;
            if let Output::File(path) = buffer.output {
                fs::write(path, &buffer.bytes).with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        if self.json {
            let mut object = as_json(kernel, report.instructions, &told);
            if self.count {
                object["counts"] = by_name(counts);
            }
            if self.fidelity {
                object["approximate"] = by_name(report.approximate);
            }
            return Ok(format!("{object}\n"));
        }
        let mut text = as_text(kernel, report.instructions, &told, self.show);
        for (name, count) in counts {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:>24} {count}");
        }
        if self.fidelity {
            let _ = write!(text, "{}", fidelity(&report.approximate));
        }
        Ok(text)
    }

    /// The environment's card, or else the one that the object is for, with the checks and counts that are asked for.
    fn options(&self, image: &[u8]) -> Result<Options> {
        let mut options = Options::from_env()?;
        options.checks = self.check.unwrap_or(options.checks);
        options.counts = self.count;
        options.perturb = self.perturb.unwrap_or(options.perturb);
        // Of several objects in a bundle, the card chooses; what cannot be read is told when it is loaded.
        if env::var_os("HIP_EMU_ARCH").is_none()
            && let Ok(object) = CodeObject::parse(image)
            && !object.target().processor.ends_with("-generic")
        {
            options.target = object.target().to_string();
        }
        Ok(options)
    }

    /// Counts with their names; waves of a SIMD as the descriptor allows them come last.
    fn counts(
        &self,
        image: &[u8],
        kernel: &KernelInfo,
        counters: &Counters,
    ) -> Result<Vec<(&'static str, u64)>> {
        let object = CodeObject::parse_for(image, &self.options(image)?.target.parse()?)?;
        let (_, descriptor) = KernelDescriptor::find(object.elf(), &kernel.descriptor)?;
        let waves = self.block.iter().product::<u32>().div_ceil(32);
        let lds = descriptor.group_segment_size.saturating_add(self.lds);
        let occupancy = Occupancy::of_rdna3(&descriptor, &object.target().processor, waves, lds);
        let mut named = counters.named();
        named.push(("waves_per_simd", occupancy.waves.into()));
        Ok(named)
    }

    /// The kernel of the name, or the only one.
    fn kernel<'a>(&self, program: &'a Program) -> Result<&'a KernelInfo> {
        let available = || program.kernels().iter().map(|kernel| kernel.name.clone()).collect::<Vec<_>>();
        match (&self.kernel, program.kernels()) {
            (Some(name), _) => program
                .kernel(name)
                .ok_or_else(|| LaunchError::NoKernel { kernel: name.clone(), available: available() }.into()),
            (None, [only]) => Ok(only),
            (None, _) => bail!("give --kernel: the code object has {}", available().join(", ")),
        }
    }

    /// Compares the arguments with the kernel's parameters.
    fn check(&self, kernel: &KernelInfo) -> Result<()> {
        let parameters = kernel.explicit_args().count();
        let mut pairs = self.arguments.iter().zip(kernel.explicit_args());
        let wrong = if parameters != self.arguments.len() {
            format!("takes {parameters} arguments, {} were given", self.arguments.len())
        } else if let Some(index) = pairs.position(|(argument, parameter)| !argument.suits(parameter)) {
            format!("takes another argument {index} than the one given")
        } else {
            return Ok(());
        };
        let list: String = kernel
            .explicit_args()
            .enumerate()
            .map(|(index, parameter)| format!("\n  {index}: {parameter}: {}", expected(parameter)))
            .collect();
        bail!("kernel `{}` {wrong}. Its arguments, counted from 0:{list}", kernel.name)
    }

    /// Puts the buffers into the card's memory and the arguments to their offsets.
    fn pack<'a>(&'a self, machine: &Machine, kernel: &'a KernelInfo) -> Result<(Vec<u8>, Vec<Told<'a>>)> {
        let (mut packed, mut told) = (Vec::new(), Vec::new());
        for (index, (argument, parameter)) in self.arguments.iter().zip(kernel.explicit_args()).enumerate() {
            let value = match argument {
                Argument::Value(bytes) => bytes.clone(),
                Argument::Null => vec![0; 8],
                Argument::Buffer(buffer) => {
                    let (address, bytes) = place(machine, buffer)?;
                    if let Some(output) = &buffer.output {
                        let (name, element) = (parameter.name.as_deref(), buffer.element);
                        told.push(Told { index, name, element, output, address, bytes: vec![0; bytes] });
                    }
                    address.to_le_bytes().to_vec()
                }
            };
            put(&mut packed, usize::try_from(parameter.offset)?, &value)?;
        }
        Ok((packed, told))
    }
}

/// Allocates a buffer; gives its address and bytes.
fn place(machine: &Machine, buffer: &Buffer) -> Result<(u64, usize)> {
    let (contents, bytes) = buffer.load()?;
    let address = machine.memory().allocate(bytes)?;
    machine.memory().write(address, &contents)?;
    Ok((address, bytes))
}

/// Writes an argument to its offset in the block, which grows as needed.
fn put(packed: &mut Vec<u8>, offset: usize, value: &[u8]) -> Result<()> {
    /// Hardware's kernel argument segments are far smaller: a larger offset is damage.
    const MOST: usize = 1 << 16;
    let end = offset.saturating_add(value.len());
    if end > MOST {
        bail!("an argument lies {offset} bytes from the first: the code object is damaged");
    }
    packed.resize(packed.len().max(end), 0);
    for (place, byte) in packed.iter_mut().skip(offset).zip(value) {
        *place = *byte;
    }
    Ok(())
}

fn by_name(counts: Vec<(&str, u64)>) -> Value {
    counts.into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
}

/// Approximate operations, one on a line.
fn fidelity(approximate: &[(&str, u64)]) -> String {
    if approximate.is_empty() {
        return "no operation ran whose low bits hardware does not specify\n".to_owned();
    }
    let lines = approximate.iter().map(|(name, count)| format!("{name:>24} {count}\n"));
    "operations whose low bits hardware does not specify:\n".to_owned() + &lines.collect::<String>()
}

fn as_text(kernel: &KernelInfo, instructions: u64, told: &[Told<'_>], show: usize) -> String {
    let mut text = format!("{}: {instructions} instructions\n", kernel.name);
    for Told { index, name, element, output, bytes, .. } in told {
        let name = name.map_or_else(String::new, |name| format!(" `{name}`"));
        let count = bytes.len() / element.size();
        let values = match output {
            Output::File(path) => format!("in {}", path.display()),
            Output::Print => {
                let shown = bytes.chunks_exact(element.size()).take(show).map(|chunk| element.text(chunk));
                let mut values: Vec<String> = shown.collect();
                if count > show {
                    values.push(format!("and {} more", count - show));
                }
                values.join(", ")
            }
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "argument {index}{name}, {}[{count}]: {values}", element.name());
    }
    text
}

fn as_json(kernel: &KernelInfo, instructions: u64, told: &[Told<'_>]) -> Value {
    let outputs: Vec<Value> = told
        .iter()
        .map(|Told { index, name, element, output, bytes, .. }| {
            let mut entry = json!({
                "argument": index,
                "name": name,
                "type": element.name(),
                "count": bytes.len() / element.size(),
            });
            match output {
                Output::File(path) => entry["file"] = json!(path.display().to_string()),
                Output::Print => {
                    let values = bytes.chunks_exact(element.size()).map(|chunk| element.json(chunk));
                    entry["values"] = values.collect();
                }
            }
            entry
        })
        .collect();
    json!({ "kernel": kernel.name, "instructions": instructions, "outputs": outputs })
}
