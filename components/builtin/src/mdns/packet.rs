//! DNS messages, as far as multicast DNS service discovery needs them: questions, and PTR, SRV, TXT, A and AAAA
//! records (RFC 1035, RFC 2782, RFC 6762). Everything else is skipped.
//!
//! INVARIANT: reading never fails on content it does not know, never reads beyond the packet, and ends on any input.

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};

/// Kinds of record.
pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const TXT: u16 = 16;
pub(super) const AAAA: u16 = 28;
pub(super) const SRV: u16 = 33;
/// Any kind, in a question.
pub(super) const ANY: u16 = 255;

const INTERNET: u16 = 1;
/// In a question: answer me alone. In a record: forget what you knew.
const TOP_BIT: u16 = 0x8000;
const IS_RESPONSE: u16 = 0x8000;
const AUTHORITATIVE: u16 = 0x0400;
/// RFC 1035, 2.3.4.
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 255;

/// A domain name: its labels, without the root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name(Vec<Vec<u8>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub id: u16,
    pub is_response: bool,
    pub questions: Vec<Question>,
    pub answers: Vec<Record>,
    /// What a querier claims while it probes for a free name.
    pub authorities: Vec<Record>,
    pub additional: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub name: Name,
    pub kind: u16,
    /// The querier would rather be answered alone.
    pub unicast: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub name: Name,
    /// Seconds; zero takes the record back.
    pub ttl: u32,
    /// The sender is the only one who has records of this name and kind.
    pub unique: bool,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Ptr(Name),
    Srv { port: u16, target: Name },
    Txt(Vec<Vec<u8>>),
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
}

impl Name {
    /// From text with dots between labels. `None` if a label is empty or too long, or the whole is.
    pub(super) fn new(text: &str) -> Option<Self> {
        let labels: Vec<Vec<u8>> = text
            .trim_end_matches('.')
            .split('.')
            .map(|label| label.as_bytes().to_vec())
            .collect();
        let name = Self(labels);
        let sound = name
            .0
            .iter()
            .all(|label| (1..=LONGEST_LABEL).contains(&label.len()));
        (sound && name.length() <= LONGEST_NAME).then_some(name)
    }

    /// Whether this is a name below the other.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.0.ends_with(&other.0)
    }

    fn length(&self) -> usize {
        self.0.iter().map(|label| label.len() + 1).sum::<usize>() + 1
    }
}

impl Packet {
    pub(super) fn query(questions: Vec<Question>) -> Self {
        Self {
            id: 0,
            is_response: false,
            questions,
            answers: Vec::new(),
            authorities: Vec::new(),
            additional: Vec::new(),
        }
    }

    pub(super) fn response(answers: Vec<Record>, additional: Vec<Record>) -> Self {
        Self {
            is_response: true,
            answers,
            additional,
            ..Self::query(Vec::new())
        }
    }

    /// All records of a response, whatever section they are in.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.answers
            .iter()
            .chain(&self.authorities)
            .chain(&self.additional)
    }

    /// `None` if these bytes are not a DNS message, or not a standard query or a good response.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes, at: 0 };
        let id = reader.u16()?;
        let flags = reader.u16()?;
        // Operation and response code: only zeros mean anything here (RFC 6762, 18.3 and 18.11).
        if flags & 0x780f != 0 {
            return None;
        }
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let [questions, answers, authorities, additional] = counts;
        Some(Self {
            id,
            is_response: flags & IS_RESPONSE != 0,
            questions: (0..questions).map(|_| reader.question()).collect::<Option<_>>()?,
            answers: reader.section(answers)?,
            authorities: reader.section(authorities)?,
            additional: reader.section(additional)?,
        })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let flags = if self.is_response {
            IS_RESPONSE | AUTHORITATIVE
        } else {
            0
        };
        for number in [
            self.id,
            flags,
            count(&self.questions),
            count(&self.answers),
            count(&self.authorities),
            count(&self.additional),
        ] {
            out.extend(number.to_be_bytes());
        }
        for question in &self.questions {
            put_name(&mut out, &question.name);
            out.extend(question.kind.to_be_bytes());
            out.extend(class(question.unicast).to_be_bytes());
        }
        for record in self.records() {
            put_record(&mut out, record);
        }
        out
    }
}

impl Data {
    pub(super) fn kind(&self) -> u16 {
        match self {
            Self::Ptr(_) => PTR,
            Self::Srv { .. } => SRV,
            Self::Txt(_) => TXT,
            Self::A(_) => A,
            Self::Aaaa(_) => AAAA,
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Compressed names point backwards only, so each jump brings the end nearer (RFC 1035, 4.1.4).
    fn name(&mut self) -> Option<Name> {
        let mut labels = Vec::new();
        let mut length = 1;
        let mut back = None;
        let mut start = self.at;
        loop {
            let tag = self.u8()?;
            match tag & 0xc0 {
                0 if tag == 0 => break,
                0 => {
                    let label = self.take(tag.into())?;
                    length += label.len() + 1;
                    if length > LONGEST_NAME {
                        return None;
                    }
                    labels.push(label.to_vec());
                }
                0xc0 => {
                    let target = usize::from(u16::from_be_bytes([tag & 0x3f, self.u8()?]));
                    if target >= start {
                        return None;
                    }
                    back.get_or_insert(self.at);
                    start = target;
                    self.at = target;
                }
                _ => return None,
            }
        }
        if let Some(back) = back {
            self.at = back;
        }
        Some(Name(labels))
    }

    fn question(&mut self) -> Option<Question> {
        let name = self.name()?;
        let kind = self.u16()?;
        let class = self.u16()?;
        Some(Question {
            name,
            kind,
            unicast: class & TOP_BIT != 0,
        })
    }

    fn section(&mut self, count: u16) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for _ in 0..count {
            records.extend(self.record()?);
        }
        Some(records)
    }

    /// The inner `None` is a record of a kind that is of no use here.
    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.name()?;
        let kind = self.u16()?;
        let class = self.u16()?;
        let ttl = u32::from_be_bytes(self.array()?);
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length)?;
        let data = match kind {
            PTR => Some(Data::Ptr(self.name()?)),
            SRV => {
                self.take(4)?;
                let port = self.u16()?;
                Some(Data::Srv {
                    port,
                    target: self.name()?,
                })
            }
            TXT => {
                let mut texts = Vec::new();
                while self.at < end {
                    let length = self.u8()?;
                    texts.push(self.take(length.into())?.to_vec());
                }
                Some(Data::Txt(texts))
            }
            A => Some(Data::A(Ipv4Addr::from(self.array::<4>()?))),
            AAAA => Some(Data::Aaaa(Ipv6Addr::from(self.array::<16>()?))),
            _ => {
                self.take(length)?;
                None
            }
        };
        if self.at != end {
            return None;
        }
        let data = data.filter(|_| class & !TOP_BIT == INTERNET);
        Some(data.map(|data| Record {
            name,
            ttl,
            unique: class & TOP_BIT != 0,
            data,
        }))
    }
}

fn put_record(out: &mut Vec<u8>, record: &Record) {
    put_name(out, &record.name);
    out.extend(record.data.kind().to_be_bytes());
    out.extend(class(record.unique).to_be_bytes());
    out.extend(record.ttl.to_be_bytes());
    let mut data = Vec::new();
    match &record.data {
        Data::Ptr(name) => put_name(&mut data, name),
        Data::Srv { port, target } => {
            // Priority and weight: no preference.
            data.extend([0; 4]);
            data.extend(port.to_be_bytes());
            put_name(&mut data, target);
        }
        Data::Txt(texts) => texts.iter().for_each(|text| put_text(&mut data, text)),
        Data::A(address) => data.extend(address.octets()),
        Data::Aaaa(address) => data.extend(address.octets()),
    }
    out.extend(
        u16::try_from(data.len())
            .expect("names and texts are short")
            .to_be_bytes(),
    );
    out.extend(data);
}

fn put_name(out: &mut Vec<u8>, name: &Name) {
    for label in &name.0 {
        put_text(out, label);
    }
    out.push(0);
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(u8::try_from(text.len()).expect("labels and texts are checked when they are made"));
    out.extend(text);
}

fn class(top_bit: bool) -> u16 {
    if top_bit { INTERNET | TOP_BIT } else { INTERNET }
}

fn count<T>(of: &[T]) -> u16 {
    u16::try_from(of.len()).expect("our packets hold a handful of records")
}
