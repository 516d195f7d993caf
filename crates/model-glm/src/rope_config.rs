//! The scaling of a rotary embedding, from `rope_parameters` (transformers 5) or `rope_scaling` (4.x).

use kernels_rope::Scaling;

use crate::GlmError;
use crate::keys::Keys;

/// Reads the scaling as transformers does; no keys, or no kind, is none. Where a kind needs the length that the model
/// was trained for and the keys do not say it, that is `max_positions`.
pub(crate) fn read_scaling(keys: Option<&Keys<'_>>, max_positions: u32) -> Result<Scaling, GlmError> {
    let Some(keys) = keys else { return Ok(Scaling::None) };
    let kind = match (keys.has("rope_type"), keys.has("type")) {
        (true, _) => keys.text("rope_type")?,
        (false, true) => keys.text("type")?,
        (false, false) => return Ok(Scaling::None),
    };
    let trained = keys.optional_count("original_max_position_embeddings", u32::MAX)?;
    let trained_positions = trained.unwrap_or(max_positions);
    match kind {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear { factor: keys.number("factor")? }),
        "dynamic" => Ok(Scaling::Dynamic { factor: keys.number("factor")?, trained_positions }),
        "yarn" => Ok(Scaling::Yarn {
            factor: keys.number("factor")?,
            trained_positions,
            beta_fast: keys.optional_number("beta_fast")?.unwrap_or(32.0),
            beta_slow: keys.optional_number("beta_slow")?.unwrap_or(1.0),
            attention_factor: keys.optional_number("attention_factor")?,
            mscale: keys.optional_number("mscale")?,
            mscale_all_dim: keys.optional_number("mscale_all_dim")?,
            truncate: keys.flag("truncate")?.unwrap_or(true),
        }),
        "llama3" => Ok(Scaling::Llama3 {
            factor: keys.number("factor")?,
            low_freq_factor: keys.number("low_freq_factor")?,
            high_freq_factor: keys.number("high_freq_factor")?,
            trained_positions,
        }),
        "longrope" => Ok(Scaling::LongRope {
            factor: match keys.optional_number("factor")? {
                Some(factor) => factor,
                None => f64::from(max_positions) / f64::from(trained_positions),
            },
            short_factor: keys.numbers("short_factor")?,
            long_factor: keys.numbers("long_factor")?,
            trained_positions,
            attention_factor: keys.optional_number("attention_factor")?,
        }),
        _ => Err(keys.bad(
            if keys.has("rope_type") { "rope_type" } else { "type" },
            "default, linear, dynamic, yarn, llama3 or longrope",
        )),
    }
}
