//! Where heads lie in a buffer.

use kernels_rope::Layout;

/// How the rows of a tensor `[tokens, heads, head_dim]` lie in its buffer. Around all of them is room that must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Without gaps.
    Contiguous,
    /// Queries, keys and values of a token in one row, as one projection gives them.
    Packed,
    /// `[heads, tokens, head_dim]`.
    HeadMajor,
    /// `[heads, tokens, head_dim]` with gaps after rows and heads.
    HeadMajorGaps,
    /// ggml's view: the first half of rows twice as wide, of four times the heads.
    Quarter,
    /// ggml's view of the second half of rows twice as wide.
    SecondHalf,
    /// A window of rows of this many elements, which starts at the second number.
    Window(u32, u32),
    /// Gaps of odd sizes after rows and tokens, at an odd offset.
    Odd,
}

/// The rows of one tensor in its buffer of `len` elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) layout: Layout,
    /// Whether the rows have no gaps, for which the library has a constructor of its own.
    pub(crate) contiguous: bool,
    /// The part of the buffer that is given to the library.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) len: usize,
}

/// Elements before and after what is given to the library.
const MARGIN: u64 = 24;

impl View {
    pub(crate) fn name(self) -> String {
        match self {
            View::Contiguous => "contiguous".to_owned(),
            View::Packed => "packed".to_owned(),
            View::HeadMajor => "head-major".to_owned(),
            View::HeadMajorGaps => "head-major-gaps".to_owned(),
            View::Quarter => "quarter".to_owned(),
            View::SecondHalf => "second-half".to_owned(),
            View::Window(row, start) => format!("window{start}of{row}"),
            View::Odd => "odd".to_owned(),
        }
    }

    /// Rows of `heads` heads. `packed` are the heads of a whole packed row and the head at which these begin there.
    pub(crate) fn place(self, tokens: u32, heads: u32, head_dim: u32, packed: (u32, u32)) -> Place {
        let (t, h, d) = (u64::from(tokens), u64::from(heads), u64::from(head_dim));
        let (token_stride, head_stride, offset) = match self {
            View::Contiguous => (h * d, d, 0),
            View::Packed => (u64::from(packed.0) * d, d, u64::from(packed.1) * d),
            View::HeadMajor => (d, t * d, 0),
            View::HeadMajorGaps => (d + 3, t * (d + 3) + 5, 1),
            View::Quarter => (4 * h * 2 * d, 2 * d, 0),
            View::SecondHalf => (h * 2 * d, 2 * d, d),
            View::Window(row, start) => (h * u64::from(row), u64::from(row), u64::from(start)),
            View::Odd => (h * (d + 5) + 7, d + 5, 3),
        };
        let rows = t > 0 && h > 0;
        let extent = if rows { (t - 1) * token_stride + (h - 1) * head_stride + d } else { 0 };
        let start = MARGIN + offset;
        let index = |at: u64| usize::try_from(at).unwrap();
        Place {
            layout: Layout { tokens, heads, head_dim, token_stride, head_stride },
            contiguous: self == View::Contiguous,
            start: index(start),
            end: index(start + extent),
            len: index(start + extent + MARGIN),
        }
    }
}

impl Place {
    /// Where each row starts in the buffer, with its token.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Place { layout, start, .. } = *self;
        let stride = |stride: u64| usize::try_from(stride).unwrap();
        let (token_stride, head_stride) = (stride(layout.token_stride), stride(layout.head_stride));
        (0..layout.tokens as usize).flat_map(move |token| {
            let first = start + token * token_stride;
            (0..layout.heads as usize).map(move |head| (token, first + head * head_stride))
        })
    }
}
