//! The mistakes, and the checkpoints that they are made in.

use std::ops::Range;

use crate::checkpoint::Checkpoint;

/// A golden checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Glm4,
    Glm,
    /// In the original layout, with queries, keys and values in one matrix.
    ChatGlm,
}

/// Query heads and key and value heads of all of them.
const HEADS: usize = 4;
const KV_HEADS: usize = 2;

impl Family {
    pub(crate) const ALL: [Family; 3] = [Family::Glm4, Family::Glm, Family::ChatGlm];

    pub(crate) fn folder(self) -> &'static str {
        match self {
            Family::Glm4 => "glm4",
            Family::Glm => "glm",
            Family::ChatGlm => "chatglm_orig",
        }
    }

    /// Whose outputs it must give.
    pub(crate) fn outputs(self) -> &'static str {
        if self == Family::Glm4 { "glm4" } else { "glm" }
    }

    fn head_dim(self) -> usize {
        if self == Family::Glm4 { 32 } else { 16 }
    }

    fn layers(self) -> usize {
        if self == Family::Glm4 { 2 } else { 3 }
    }

    fn layer(self, layer: usize, part: &str) -> String {
        match self {
            Family::Glm4 | Family::Glm => format!("model.layers.{layer}.{part}"),
            Family::ChatGlm => format!("transformer.encoder.layers.{layer}.{part}"),
        }
    }

    /// The tensor that has a projection as these rows; `kind` is `weight` or `bias`.
    fn projection(self, layer: usize, of: Projection, kind: &str) -> (String, Range<usize>) {
        let rows = of.heads() * self.head_dim();
        match self {
            Family::Glm4 | Family::Glm => {
                (self.layer(layer, &format!("self_attn.{}_proj.{kind}", of.letter())), 0..rows)
            }
            Family::ChatGlm => {
                let first = of.heads_before() * self.head_dim();
                (self.layer(layer, &format!("self_attention.query_key_value.{kind}")), first..first + rows)
            }
        }
    }

    /// Weight and, where there is one, bias.
    fn kinds(self) -> &'static [&'static str] {
        if self == Family::Glm4 { &["weight"] } else { &["weight", "bias"] }
    }

    fn name(self, of: &str, layer: usize) -> String {
        let original = self == Family::ChatGlm;
        let part = match of {
            "out" if original => "self_attention.dense.weight",
            "out" => "self_attn.o_proj.weight",
            "gate_up" if original => "mlp.dense_h_to_4h.weight",
            "gate_up" => "mlp.gate_up_proj.weight",
            norm => norm,
        };
        self.layer(layer, part)
    }

    fn config(self, of: &str) -> &'static str {
        match (self, of) {
            (Family::ChatGlm, "eps") => "/layernorm_epsilon",
            (_, "eps") => "/rms_norm_eps",
            (Family::ChatGlm, _) => "/rope_ratio",
            _ => "/rope_parameters/rope_theta",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Projection {
    Query,
    Key,
    Value,
}

use Projection::{Key, Query, Value};

impl Projection {
    fn letter(self) -> char {
        match self {
            Query => 'q',
            Key => 'k',
            Value => 'v',
        }
    }

    fn heads(self) -> usize {
        if self == Query { HEADS } else { KV_HEADS }
    }

    fn heads_before(self) -> usize {
        match self {
            Query => 0,
            Key => HEADS,
            Value => HEADS + KV_HEADS,
        }
    }
}

/// One mistake.
pub(crate) struct Mistake {
    pub(crate) name: &'static str,
    pub(crate) make: Box<dyn Fn(&mut Checkpoint)>,
    /// From which token on positions are off, and by how much.
    pub(crate) offset: Option<(usize, u32)>,
}

/// All that can be made in a family.
pub(crate) fn mistakes(family: Family) -> Vec<Mistake> {
    let mut mistakes = rotation(family);
    mistakes.extend(projections(family));
    mistakes.extend(layers(family));
    mistakes.extend(numbers(family));
    mistakes
}

fn mistake(name: &'static str, make: impl Fn(&mut Checkpoint) + 'static) -> Mistake {
    Mistake { name, make: Box::new(make), offset: None }
}

/// Gives every head of a projection, weight and bias, its rows in another order: row `i` is the one that was at `from(i)`.
fn reorder_heads(
    checkpoint: &mut Checkpoint,
    family: Family,
    projections: &[Projection],
    from: impl Fn(usize) -> usize,
) {
    for (layer, &of) in (0..family.layers()).flat_map(|layer| projections.iter().map(move |of| (layer, of))) {
        for kind in family.kinds() {
            let (name, range) = family.projection(layer, of, kind);
            checkpoint.change(&name, |rows| {
                for head in rows[range].chunks_exact_mut(family.head_dim()) {
                    let old = head.to_vec();
                    head.iter_mut().enumerate().for_each(|(row, new)| new.clone_from(&old[from(row)]));
                }
            });
        }
    }
}

/// What a rotation that pairs, turns or places otherwise would do, done to the rows of queries and keys.
fn rotation(family: Family) -> Vec<Mistake> {
    let (head_dim, rotary_dim) = (family.head_dim(), family.head_dim() / 2);
    let reordered =
        move |name, projections: &'static [Projection], from: fn(usize, usize, usize) -> usize| {
            mistake(name, move |checkpoint| {
                reorder_heads(checkpoint, family, projections, |row| from(row, rotary_dim, head_dim));
            })
        };
    const BOTH: &[Projection] = &[Query, Key];
    let halves = |row: usize, rotary_dim: usize, _: usize| match row {
        row if row >= rotary_dim => row,
        row if row % 2 == 0 => row / 2,
        row => row / 2 + rotary_dim / 2,
    };
    let exchanged = |row: usize, rotary_dim: usize, _: usize| if row < rotary_dim { row ^ 1 } else { row };
    let mut mistakes = vec![
        reordered("pairing by halves", BOTH, halves),
        reordered("pairing by halves of the keys alone", &[Key], halves),
        reordered("sign of the angle", BOTH, exchanged),
        reordered("sign of the queries' angle", &[Query], exchanged),
        reordered("width: the end of each head is rotated, not its start", BOTH, |row, _, head_dim| {
            (row + head_dim / 2) % head_dim
        }),
        reordered("pairing backwards: the fastest pair turns slowest", BOTH, |row, rotary_dim, _| {
            if row < rotary_dim { (rotary_dim / 2 - 1 - row / 2) * 2 + row % 2 } else { row }
        }),
    ];
    for (name, factor) in [("theta ten times as large", 10.0), ("theta 1 % too large", 1.01)] {
        mistakes.push(mistake(name, move |checkpoint| {
            let path = family.config("theta");
            checkpoint.set(path, checkpoint.number(path) * factor);
        }));
    }
    if family != Family::ChatGlm {
        for (name, factor) in [("width of the whole head", 1.0), ("width of a quarter of the head", 0.25)] {
            mistakes.push(mistake(name, move |checkpoint| {
                checkpoint.set("/rope_parameters/partial_rotary_factor", factor);
            }));
        }
    }
    for (name, offset) in [("offset of one from the third token on", 1), ("offset counted twice", 2)] {
        mistakes.push(Mistake { name, make: Box::new(|_| ()), offset: Some((2, offset)) });
    }
    mistakes
}

/// Rows of queries, keys and values that are taken for others, and heads that meet other heads.
fn projections(family: Family) -> Vec<Mistake> {
    let mut mistakes = vec![
        mistake("qkv split: keys and values change places", move |checkpoint| {
            for layer in 0..family.layers() {
                for kind in family.kinds() {
                    exchange_rows(checkpoint, family, layer, kind);
                }
            }
        }),
        mistake("qkv split: query heads one further along", move |checkpoint| {
            for (layer, kind) in
                (0..family.layers()).flat_map(|layer| family.kinds().iter().map(move |kind| (layer, kind)))
            {
                let (name, range) = family.projection(layer, Query, kind);
                checkpoint.change(&name, |rows| rows[range].rotate_left(family.head_dim()));
            }
        }),
        mistake("heads tiled over key and value heads, not grouped", move |checkpoint| {
            for layer in 0..family.layers() {
                tile_heads(checkpoint, family, layer);
            }
        }),
        mistake("heads of the output in another order", move |checkpoint| {
            checkpoint.change(&family.name("out", 0), |rows| {
                rows.iter_mut().for_each(|row| row.rotate_left(family.head_dim()));
            });
        }),
    ];
    for (name, factor) in [
        ("scale left out", (family.head_dim() as f32).sqrt()),
        ("scale 1 % too large", 1.01),
        ("scale of the rotated width", 2.0_f32.sqrt()),
    ] {
        mistakes.push(mistake(name, move |checkpoint| {
            for (layer, kind) in
                (0..family.layers()).flat_map(|layer| family.kinds().iter().map(move |kind| (layer, kind)))
            {
                let (name, range) = family.projection(layer, Query, kind);
                checkpoint.change(&name, |rows| {
                    rows[range].iter_mut().flatten().for_each(|number| *number *= factor);
                });
            }
        }));
    }
    if family != Family::Glm4 {
        for (name, of) in [("bias of queries", Query), ("bias of keys", Key), ("bias of values", Value)] {
            mistakes.push(mistake(name, move |checkpoint| {
                let (tensor, range) = family.projection(0, of, "bias");
                checkpoint.change(&tensor, |rows| rows[range].iter_mut().for_each(|row| row.fill(0.0)));
            }));
        }
    }
    mistakes
}

fn exchange_rows(checkpoint: &mut Checkpoint, family: Family, layer: usize, kind: &str) {
    let [(keys, key_rows), (values, value_rows)] = [Key, Value].map(|of| family.projection(layer, of, kind));
    if keys == values {
        checkpoint.change(&keys, |rows| rows[key_rows.start..value_rows.end].rotate_left(key_rows.len()));
    } else {
        checkpoint.exchange(&keys, &values);
    }
}

/// Puts query heads where a head `h` would meet the key head `h % kv_heads`, and the output's columns with them.
fn tile_heads(checkpoint: &mut Checkpoint, family: Family, layer: usize) {
    let head_dim = family.head_dim();
    let group = HEADS / KV_HEADS;
    let from = |head: usize| head % group * KV_HEADS + head / group;
    let tiled = |heads: &[Vec<f32>]| {
        let head = |head: usize| heads[from(head) * head_dim..][..head_dim].to_vec();
        Vec::from_iter((0..HEADS).flat_map(head))
    };
    for kind in family.kinds() {
        let (name, range) = family.projection(layer, Query, kind);
        checkpoint.change(&name, |rows| {
            let heads = tiled(&rows[range.clone()]);
            rows.splice(range, heads);
        });
    }
    checkpoint.change(&family.name("out", layer), |rows| {
        for row in rows {
            let columns = Vec::from_iter(row.iter().map(|&column| vec![column]));
            *row = tiled(&columns).concat();
        }
    });
}

fn layers(family: Family) -> Vec<Mistake> {
    let mut mistakes = vec![
        mistake("gate and up change places", move |checkpoint| {
            for layer in 0..family.layers() {
                checkpoint.change(&family.name("gate_up", layer), |rows| {
                    let half = rows.len() / 2;
                    rows.rotate_left(half);
                });
            }
        }),
        mistake("gate and up row by row", move |checkpoint| {
            checkpoint.change(&family.name("gate_up", 0), |rows| {
                let half = rows.len() / 2;
                *rows = (0..half).flat_map(|row| [rows[row].clone(), rows[half + row].clone()]).collect();
            });
        }),
        mistake("norms before attention and MLP change places", move |checkpoint| {
            let norms = ["input_layernorm.weight", "post_attention_layernorm.weight"];
            let [input, post] = norms.map(|norm| family.name(norm, 0));
            checkpoint.exchange(&input, &post);
        }),
        mistake("norm without its weight", move |checkpoint| {
            let name = family.name("input_layernorm.weight", 0);
            checkpoint.change(&name, |rows| rows.iter_mut().for_each(|row| row.fill(1.0)));
        }),
        mistake("layers in another order", move |checkpoint| {
            for name in checkpoint.names() {
                let first = family.layer(0, "");
                if let Some(part) = name.strip_prefix(&first) {
                    checkpoint.exchange(&name, &family.layer(1, part));
                }
            }
        }),
    ];
    if family == Family::Glm4 {
        mistakes.push(mistake("norms behind attention and MLP change places", |checkpoint| {
            let norms = ["post_self_attn_layernorm.weight", "post_mlp_layernorm.weight"];
            let [attention, mlp] = norms.map(|norm| Family::Glm4.name(norm, 0));
            checkpoint.exchange(&attention, &mlp);
        }));
        mistakes.push(mistake("norms before and behind attention change places", |checkpoint| {
            let norms = ["input_layernorm.weight", "post_self_attn_layernorm.weight"];
            let [before, behind] = norms.map(|norm| Family::Glm4.name(norm, 1));
            checkpoint.exchange(&before, &behind);
        }));
    }
    mistakes
}

fn numbers(family: Family) -> Vec<Mistake> {
    [("eps ten times as large", 10.0), ("eps left out, but for what the config refuses", 1e-20)]
        .map(|(name, factor)| {
            mistake(name, move |checkpoint| {
                let path = family.config("eps");
                checkpoint.set(path, checkpoint.number(path) * factor);
            })
        })
        .into()
}
