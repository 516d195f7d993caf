//! 10 chat templates, and further ones.

use minijinja::ErrorKind;
use model_glm::{ChatTemplate, GlmError, Message};

use crate::case::{Case, Input, Outcome, says};

fn render(input: &Input) -> Outcome {
    let messages =
        [Message::new("user", "hello"), Message::new("assistant", "hello"), Message::new("user", "again")];
    ChatTemplate::new(input.text().to_owned())?.render(&messages, &[]).map(drop)
}

macro_rules! bad {
    ($name:literal, $template:expr, $kind:pat) => {
        refused!($name, $template, render, GlmError::Template { source } if matches!(source.kind(), $kind))
    };
}

/// `{% set x = ... %}` as often as said, after `x` was a text of 16 letters.
fn repeated(count: usize, value: &str) -> String {
    format!(
        "{{% set x = 'xxxxxxxxxxxxxxxx' %}}{}{{{{ x }}}}",
        format!("{{% set x = {value} %}}").repeat(count)
    )
}

/// Wraps `ns.x` in `value` 100,000 times, and then does something with it.
fn nested(value: &str, then: &str) -> String {
    let ten = "{% for i in range(10) %}";
    format!(
        "{{% set ns = namespace(x=[]) %}}{}{{% set ns.x = {value} %}}{}{then}",
        ten.repeat(5),
        "{% endfor %}".repeat(5)
    )
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        bad!(
            "loops in loops",
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            ErrorKind::OutOfFuel
        ),
        bad!("a text doubled 60 times", repeated(60, "x ~ x"), ErrorKind::OutOfFuel),
        bad!("a huge range", "{% for i in range(1000000000) %}x{% endfor %}", ErrorKind::InvalidOperation),
        bad!(
            "a macro that calls itself",
            "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
            ErrorKind::InvalidOperation | ErrorKind::EvalBlock | ErrorKind::BadInclude
        ),
        bad!(
            "a text times a number",
            "{{ 'x' * 1000000000000 }}",
            ErrorKind::InvalidOperation | ErrorKind::OutOfFuel
        ),
        bad!(
            "a walk to Python's classes",
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            ErrorKind::UndefinedError
        ),
        refused!(
            "100,000 nested ifs",
            "{% if true %}".repeat(100_000),
            render,
            GlmError::TemplateTooLong { bytes: 1_300_000, .. }
        ),
        refused!(
            "an expression of 1 MB",
            format!("{{{{ 1{} }}}}", "+1".repeat(500_000)),
            render,
            GlmError::TemplateTooLong { bytes: 1_000_000.., .. }
        ),
        refused!(
            "more output than may be",
            "{% set x = 'xxxxxxxxxxxxxxxx' * 65536 %}{% for i in range(64) %}{{ x }}{% endfor %}",
            render,
            GlmError::TemplateOutput { .. }
        ),
        bad!("an unknown filter", "{{ messages | nonsense }}", ErrorKind::UnknownFilter),
    ]
}

/// A namespace of name `ns`, handed on as `then` says, and written.
fn handed_on(then: &str) -> String {
    format!("{{% set ns = namespace(x=1) %}}{then}{{{{ ns.x }}}}")
}

pub(crate) fn further() -> Vec<Case> {
    vec![
        bad!(
            "template: a namespace that holds itself",
            handed_on("{% set ns.x = ns %}"),
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a namespace that holds itself in a tuple",
            handed_on("{% set ns.x = (1, ns) %}"),
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a namespace that holds itself by another name",
            handed_on("{% set same = ns %}{% set ns.x = same %}"),
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a namespace that holds itself through a macro",
            handed_on("{% macro f(x) %}{% set x.x = x %}{% endmacro %}{{ f(ns) }}"),
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a namespace that holds a list of its values",
            handed_on("{% set ns.x = ns.values() %}"),
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a namespace that holds a list of its attributes",
            handed_on("{% set ns.x = ns . items ( ) %}"),
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a namespace of no name",
            "{% for x in [namespace()] %}{% set x.x = x %}{{ x }}{% endfor %}",
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a namespace and more in a name",
            "{% set x = namespace(), 1 %}{% set y = x[0] %}{% set y.y = y %}{{ y }}",
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a namespace whose end stands in quotes",
            "{% set x = namespace(a=') %}'), 1 %}{% set y = x[0] %}{% set y.y = y %}{{ y }}",
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: the function of namespaces by another name",
            "{% set f = namespace %}{% set x = f() %}{% set x.x = x %}{{ x }}",
            ErrorKind::SyntaxError
        ),
        taken!(
            "template: an expression of 60,000 sums",
            format!("{{{{ 1{} }}}}", "+1".repeat(60_000)),
            render
        ),
        bad!("template: 9,000 nested ifs", "{% if true %}".repeat(9_000), ErrorKind::SyntaxError),
        bad!(
            "template: an expression of 100,000 brackets",
            format!("{{{{ {}1 }}}}", "(".repeat(100_000)),
            ErrorKind::SyntaxError
        ),
        bad!(
            "template: a text that doubles in a loop",
            "{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            ErrorKind::OutOfFuel
        ),
        bad!("template: a text that adds to itself", repeated(60, "x + x"), ErrorKind::OutOfFuel),
        bad!(
            "template: a text that is replaced by longer ones",
            repeated(20, "x | replace('x', 'xxxxxxxxxxxxxxxx')"),
            ErrorKind::OutOfFuel
        ),
        bad!(
            "template: a text that joins itself",
            repeated(20, "[x, x, x, x, x, x, x, x] | join(x)"),
            ErrorKind::OutOfFuel
        ),
        bad!(
            "template: a text that is formatted twice",
            repeated(60, "'%s%s' | format(x, x)"),
            ErrorKind::OutOfFuel
        ),
        bad!(
            "template: a text that is quoted again",
            repeated(60, "x | tojson").replacen("xx", "\"\"", 1),
            ErrorKind::OutOfFuel
        ),
        bad!(
            "template: lists of a text as JSON on lines",
            repeated(60, "{'a': x, 'b': x} | tojson(indent=4)"),
            ErrorKind::BadSerialization
        ),
        bad!("template: all that is known", "{{ debug() }}", ErrorKind::UnknownFunction),
        bad!("template: a text as wide as memory", "{{ 'x' | center(1000000000000) }}", _),
        bad!(
            "template: an indent as wide as memory",
            "{{ messages | tojson(indent=1000000000000) }}",
            ErrorKind::BadSerialization
        ),
        bad!(
            "template: a list that holds itself 60 times over, as JSON",
            repeated(60, "[x, x]").replace("{{ x }}", "{{ x | tojson }}"),
            ErrorKind::BadSerialization | ErrorKind::OutOfFuel
        ),
        refused!(
            "template: a list that holds itself 60 times over, as text",
            repeated(60, "[x, x]"),
            render,
            GlmError::TemplateOutput { .. }
        ),
        bad!("template: another file", "{% include '/etc/passwd' %}", ErrorKind::TemplateNotFound),
        bad!(
            "template: a namespace that holds itself through an import",
            "{% if messages %}{% import 'chat_template' as me %}{% set x = me.ns %}{% set x.x = x %}{{ x }}{% endif %}\
             {% set ns = namespace() %}",
            ErrorKind::TemplateNotFound
        ),
        taken!(
            "template: namespaces used by their attributes",
            "{%- set ns = namespace(last=-1, end=')') -%}{% for m in messages %}{% set ns.last = loop.index0 %}{% endfor %}\
             {% set other=namespace() %}{% set other.x = 1 %}{{ other['x'] }}{{ ns.last == 2 and ns . end ~ messages[0].ns }}",
            render
        ),
        refused!("template: a refusal of its own", "{{ raise_exception('no tools here') }}", render, error if says(error, "no tools here")),
        Case::new("template: 100,000 lists in each other", || nested("[ns.x]", "").into(), render, |_| true),
        Case::new(
            "template: 100,000 lists in each other, as text",
            || nested("[ns.x]", "{{ ns.x }}").into(),
            render,
            |_| true,
        ),
        Case::new(
            "template: 100,000 lists in each other, as JSON",
            || nested("[ns.x]", "{{ ns.x | tojson }}").into(),
            render,
            |_| true,
        ),
        Case::new(
            "template: 100,000 lists in each other, compared",
            || nested("[ns.x]", "{{ ns.x == [ns.x] }}").into(),
            render,
            |_| true,
        ),
        Case::new(
            "template: 100,000 lists in each other, sorted",
            || nested("[ns.x]", "{{ [ns.x, [ns.x]] | sort }}").into(),
            render,
            |_| true,
        ),
        Case::new(
            "template: 100,000 dicts in each other",
            || nested("{'x': ns.x}", "{{ ns.x }}").into(),
            render,
            |_| true,
        ),
        taken!(
            "template: a long message",
            "{% for m in messages %}{{ m.content | trim | upper }}{% endfor %}",
            |input| {
                let messages = [Message::new("user", "x".repeat(4 << 20))];
                ChatTemplate::new(input.text().to_owned())?.render(&messages, &[]).map(drop)
            }
        ),
        taken!(
            "template: control tokens of digits in a message of digits",
            "{{ messages[0].content }}",
            |input| {
                let tokens: Vec<String> = (0..1000).map(|at| at.to_string()).collect();
                let messages = [Message::new("user", "0123456789".repeat(1000))];
                ChatTemplate::new(input.text().to_owned())?.render(&messages, &tokens).map(drop)
            }
        ),
    ]
}
