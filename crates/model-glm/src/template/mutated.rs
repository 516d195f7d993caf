//! Templates that differ a little from right ones, read and rendered on a thread that has the stack for both: a thread for each is
//! most of their time.

use parity::Mutations;

use super::*;

#[test]
fn mutated_templates_are_rendered_or_refused() {
    let seeds = [
        "[gMASK]<sop>{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
        "{%- set ns = namespace(last=-1, text='') -%}{% for m in messages %}{% if m.role == 'user' and not loop.first %}{% set ns.last = loop.index0 %}{% set ns.text = ns.text ~ m.content.strip() %}{% elif m['content'] is string %}{{ m.content.split('</think>')[-1].strip('\\n') | tojson(ensure_ascii=False) }}{% endif %}{% endfor %}{{ ns.text[:5] ~ ns.last }}",
        "{% macro visible(x) %}{% if x is string %}{{ x }}{% elif x is iterable and x is not mapping %}{% for i in x %}{{ visible(i) }}{% endfor %}{% else %}{{ x }}{% endif %}{% endmacro %}{{ visible([messages[0].content, ['a', {'b': 1}]]) | upper | replace('A', 'bc') }}{{ [3, 1, 2] | sort | join(',') }}",
    ]
    .map(|seed| seed.as_bytes().to_vec());
    let words = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-%}",
        "{% if ",
        "{% else %}",
        "{% endif %}",
        "{% for x in ",
        "{% endfor %}",
        "{% set x = ",
        "| tojson",
        "| length",
        "| join(x)",
        "| replace('a', 'aaaa')",
        "| indent(9)",
        "| center(99999999)",
        "~",
        "+",
        "*",
        "//",
        "%",
        "**",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "messages",
        "ns.x",
        "namespace()",
        // Loops that run until they are stopped have their named cases.
        "range(9)",
        "loop",
        "recursive",
        "'",
        "\"",
        "-1",
        "0",
        "99999999999999999999",
        "1.5",
        "is ",
        "not ",
        "in ",
        "and ",
        "None",
        "True",
        ".__class__",
        ".items()",
        "[::-1]",
        "x",
        "{% include 'a' %}",
        "{% extends 'a' %}",
        "{% block b %}",
        "{% macro f(x) %}",
        "{% endmacro %}",
        "f(",
        "caller()",
    ];
    let messages = [
        Message::new("user", "hello"),
        Message::new("assistant", "<think>a</think>b"),
        Message::new("user", "again"),
    ];
    let control = [String::from("<|user|>"), String::from("again")];
    let templates = Mutations {
        name: "template mutations",
        command: "cargo test --release -p model-glm --lib mutated",
        few: 100_000,
        full: 40_000_000,
        seeds: &seeds,
        words: &words,
        reasons: 8,
    };
    templates.try_all(|source| {
        let template = ChatTemplate::compile(String::from_utf8_lossy(source).into_owned())?;
        template.render_here(&messages, &control).map(drop)
    });
}
