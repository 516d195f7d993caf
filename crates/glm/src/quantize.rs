use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use model_glm::gguf::{ConvertOptions, Converted, convert};
use serde_json::{Value, json};

use crate::args::QuantizeArgs;
use crate::ui::Loading;
use crate::{run, ui};

pub(crate) fn execute(args: &QuantizeArgs) -> Result<()> {
    let mut loading = Loading::new("converting");
    let mut progress = |done: usize, total: usize, tensor: &str| loading.advance(done, total, tensor);
    let options =
        ConvertOptions { file_type: args.file_type, overwrite: args.force, progress: Some(&mut progress) };
    let converted = convert(&args.model, &args.out, options);
    loading.finish();
    let converted = converted?;
    for warning in &converted.warnings {
        eprintln!("warning: {warning}");
    }
    let text = match args.json {
        true => format!("{}\n", as_json(args, &converted)),
        false => as_text(args, &converted)?,
    };
    run::say(&text)
}

/// Tensors, elements and bytes of each type.
fn by_type(converted: &Converted) -> BTreeMap<&'static str, (usize, usize, u64)> {
    let mut sums = BTreeMap::new();
    for tensor in &converted.tensors {
        let (count, elements, bytes) = sums.entry(tensor.stored.name()).or_insert((0, 0, 0));
        *count += 1;
        *elements += tensor.rows * tensor.columns;
        *bytes += tensor.bytes();
    }
    sums
}

fn as_text(args: &QuantizeArgs, converted: &Converted) -> Result<String> {
    let mut text = String::new();
    for (stored, (count, elements, bytes)) in by_type(converted) {
        writeln!(text, "tensors       {count} in {stored}: {elements} parameters, {}", size(bytes))?;
    }
    writeln!(text, "written       {}, {} as {}", args.out.display(), size(converted.bytes), args.file_type)?;
    Ok(text)
}

fn size(bytes: u64) -> String {
    ui::bytes(usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn as_json(args: &QuantizeArgs, converted: &Converted) -> Value {
    let stored = by_type(converted).into_iter().map(|(stored, (count, elements, bytes))| {
        (stored.to_owned(), json!({"tensors": count, "parameters": elements, "bytes": bytes}))
    });
    json!({
        "file": args.out.display().to_string(),
        "type": args.file_type.name(),
        "bytes": converted.bytes,
        "stored": Value::Object(stored.collect()),
        "warnings": converted.warnings,
    })
}
