//! How large a file, its description and the values that it makes may be, and what counts as a file.

/// Bounds of reading and checking. The defaults leave room for decoders of a hundred layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Whether files may have other names too, as package managers and deduplication give them: only where
    /// somebody knows what is in them. A stranger's second name could be that of any file of this machine.
    pub other_names: bool,
    /// Bytes of the file; protobuf itself ends at 2 GiB.
    pub file_bytes: u64,
    /// Bytes of everything but weights: names, attributes, shapes.
    pub description_bytes: u64,
    /// Messages inside messages.
    pub depth: usize,
    /// Messages in all.
    pub messages: usize,
    /// Nodes, those of subgraphs and functions too, and as many where functions are put in place.
    pub nodes: usize,
    /// Attributes of all nodes.
    pub attributes: usize,
    /// Tensors, wherever they stand.
    pub tensors: usize,
    /// Entries of lists: names, dimensions, numbers.
    pub entries: usize,
    /// Bytes of one name or text.
    pub text_bytes: u64,
    /// Bytes of one value that the graph makes, and of one tensor.
    pub value_bytes: u64,
    /// Bytes that a runtime may compute from constants at load, beyond twice the weights.
    pub folded_bytes: u64,
    /// Bytes of weights that a runtime may pack for kernels at load, beyond four times the weights.
    pub packed_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            other_names: false,
            file_bytes: (2 << 30) - 1,
            description_bytes: 64 << 20,
            depth: 64,
            messages: 1_000_000,
            nodes: 200_000,
            attributes: 500_000,
            tensors: 200_000,
            entries: 2_000_000,
            text_bytes: 256 << 10,
            value_bytes: 4 << 30,
            folded_bytes: 256 << 20,
            packed_bytes: 1 << 30,
        }
    }
}
