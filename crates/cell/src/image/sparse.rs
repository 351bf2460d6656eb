//! Maps of files with holes, in the four forms that GNU tar writes them (its manual, "Storing Sparse Files").

use super::limits::MAX_SPARSE_PIECES;

/// A run of stored bytes and where in the file it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Offset in the unpacked file.
    pub(super) offset: u64,
    /// Number of bytes.
    pub(super) len: u64,
}

/// Where the stored bytes of a file belong; between them it is zero.
#[derive(Debug, Default)]
pub(super) struct SparseMap(Vec<Run>);

impl SparseMap {
    /// The map of a file without holes.
    pub(super) fn whole(len: u64) -> Self {
        Self(vec![Run { offset: 0, len }])
    }

    /// The runs, in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Run> {
        self.0.iter().copied()
    }

    fn push(&mut self, run: Run) -> Result<(), &'static str> {
        if self.0.len() >= MAX_SPARSE_PIECES {
            return Err("a file has more holes than are accepted");
        }
        self.0.push(run);
        Ok(())
    }

    /// Adds the runs of an old GNU header or one of its continuations; whether more continuations follow.
    pub(super) fn add_gnu(&mut self, runs: Option<&[u8]>, more: Option<u8>) -> Result<bool, &'static str> {
        for run in runs.unwrap_or_default().chunks_exact(24) {
            let (offset, len) = run.split_at(12);
            if offset.first() == Some(&0) {
                break;
            }
            self.push(Run { offset: number(Some(offset))?, len: number(Some(len))? })?;
        }
        Ok(more.is_some_and(|flag| flag != 0))
    }

    /// Checks that the runs are in order, lie within `real` bytes, and are `stored` bytes together.
    pub(super) fn check(&self, stored: u64, real: u64) -> Result<(), &'static str> {
        const BAD: &str = "the map of a file's holes contradicts its size";
        let (mut end, mut sum) = (0_u64, 0_u64);
        for run in &self.0 {
            if run.offset < end {
                return Err("the map of a file's holes overlaps itself");
            }
            end = run.offset.checked_add(run.len).ok_or(BAD)?;
            sum = sum.checked_add(run.len).ok_or(BAD)?;
        }
        if end > real || sum != stored {
            return Err(BAD);
        }
        Ok(())
    }
}

/// What pax records say of a sparse file.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    /// The file's name; the entry's own is a made-up one.
    pub(super) name: Option<Vec<u8>>,
    real: Option<u64>,
    major: Option<u64>,
    minor: Option<u64>,
    numbers: Vec<u64>,
}

impl PaxSparse {
    /// Whether there was no such record.
    pub(super) fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.real.is_none()
            && self.major.is_none()
            && self.minor.is_none()
            && self.numbers.is_empty()
    }

    /// Takes one record.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match key {
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.real = Some(decimal(value)?),
            b"GNU.sparse.major" => self.major = Some(decimal(value)?),
            b"GNU.sparse.minor" => self.minor = Some(decimal(value)?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.numbers.push(decimal(value)?),
            b"GNU.sparse.map" => {
                for part in value.split(|b| *b == b',').filter(|part| !part.is_empty()) {
                    self.numbers.push(decimal(part)?);
                }
            }
            b"GNU.sparse.numblocks" => {}
            _ => return Err("an unknown record describes a file's holes"),
        }
        if self.numbers.len() > 2 * MAX_SPARSE_PIECES {
            return Err("a file has more holes than are accepted");
        }
        Ok(())
    }

    /// Bytes in the unpacked file.
    pub(super) fn real_size(&self) -> Result<u64, &'static str> {
        self.real.ok_or("a file with holes has no size")
    }

    /// Whether the map is at the head of the contents (format 1.0).
    pub(super) fn map_is_in_contents(&self) -> bool {
        self.major == Some(1) && self.minor.unwrap_or(0) == 0
    }

    /// The map that the records gave (formats 0.0 and 0.1).
    pub(super) fn map(&self) -> SparseMap {
        SparseMap(self.numbers.chunks_exact(2).filter_map(run_of).collect())
    }
}

fn run_of(pair: &[u64]) -> Option<Run> {
    match pair {
        [offset, len] => Some(Run { offset: *offset, len: *len }),
        _ => None,
    }
}

/// The decimal lines of a map of format 1.0, taken in block by block: the number of runs, then offset and length of each.
#[derive(Default)]
pub(super) struct Lines {
    digits: Vec<u8>,
    count: Option<usize>,
    numbers: Vec<u64>,
}

impl Lines {
    /// Whether all the numbers that the first one promised have come.
    pub(super) fn is_complete(&self) -> bool {
        self.count.is_some_and(|count| self.numbers.len() >= count.saturating_mul(2))
    }

    /// Takes one block. What follows the last number is padding.
    pub(super) fn add(&mut self, block: &[u8]) -> Result<(), &'static str> {
        for byte in block {
            if self.is_complete() {
                break;
            }
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err("the map of a file's holes is no list of numbers");
                }
                continue;
            }
            let number = decimal(&self.digits)?;
            self.digits.clear();
            match self.count {
                None if number > MAX_SPARSE_PIECES as u64 => {
                    return Err("a file has more holes than are accepted");
                }
                None => self.count = usize::try_from(number).ok(),
                Some(_) => self.numbers.push(number),
            }
        }
        Ok(())
    }

    /// The map.
    pub(super) fn into_map(self) -> SparseMap {
        SparseMap(self.numbers.chunks_exact(2).filter_map(run_of).collect())
    }
}

/// A number of decimal digits alone.
pub(super) fn decimal(text: &[u8]) -> Result<u64, &'static str> {
    const BAD: &str = "a number in an extended header is none";
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(BAD)
}

/// A number of a header: octal digits between blanks, or binary with the top bit of the first byte set.
pub(super) fn number(field: Option<&[u8]>) -> Result<u64, &'static str> {
    const BAD: &str = "a number in a header is none";
    let field = field.ok_or(BAD)?;
    if field.first().is_some_and(|b| b & 0x80 != 0) {
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let sound = high.iter().enumerate().all(|(at, b)| *b == if at == 0 { 0x80 } else { 0 });
        let low: [u8; 8] = low.try_into().map_err(|_| BAD)?;
        return if sound { Ok(u64::from_be_bytes(low)) } else { Err(BAD) };
    }
    let text = std::str::from_utf8(field).map_err(|_| BAD)?;
    let text = text.trim_matches([' ', '\0']);
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 8).map_err(|_| BAD)
}
