//! Lenient reader: reads what can be used of an answer that the strict reader of [`super::classify`] can't read.
//!
//! | the answer | what is read |
//! | --- | --- |
//! | a byte order mark, a comma too many, control characters in a text | the same as without them |
//! | JSON whose end is missing | every text that has its closing quote |
//! | a whole number as `serviceId` | its digits |
//! | the link as `verificationLink` or `verification_url`, or as the `url` of an object | the link |
//! | the members beside `data`, in `user` or `result`, or in one of these in `data` | the same as in `data` |
//! | a member that is there twice | its value if both are the same, else none |
//!
//! **Invariants**
//! - Nothing is invented: each value is the text of one string or number in the body.
//! - A value is never read from a list, nor from an object other than these, which may be about another person; nor
//!   from one with another `serviceId` than the answer's.
//! - Bounded: it remembers a few texts of the body, and its recursion has three levels.

use crate::domain::{LinkLoss, ServiceId, VerificationUrl};

/// Skipped in front of JSON (RFC 8259, 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Returns the body without a byte order mark.
pub(crate) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Returns whether the body begins like a JSON object, however it ends.
pub(super) fn begins_as_object(body: &[u8]) -> bool {
    without_mark(body).trim_ascii_start().starts_with(b"{")
}

/// Returns whether an answer with this `status` in its body is an error, whatever its HTTP status.
pub(super) fn is_error(status: &str) -> bool {
    ["error", "fail", "failed", "failure"].iter().any(|error| error.eq_ignore_ascii_case(status))
}

/// What could be read of a success. At least one of both is usable.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SalvagedCreation {
    pub(super) service_id: Option<ServiceId>,
    pub(super) link: Result<VerificationUrl, LinkLoss>,
}

/// Reads the id and the link of a success. `None` where neither is usable, and where the answer says that it is an
/// error.
pub(super) fn creation(body: &[u8]) -> Option<SalvagedCreation> {
    let mut found = FoundMembers::default();
    let is_whole = LenientReader::new(body).read(&mut found);
    if found.status == Claim::Value(EnvelopeStatus::Error) {
        return None;
    }
    let service_id = found.service_id();
    let link = found.link(service_id.as_ref());
    let link = link.map_err(|is_missing| match (is_missing, is_whole) {
        (false, _) => LinkLoss::Unusable,
        (true, true) => LinkLoss::NotSent,
        (true, false) => LinkLoss::LostAnswer,
    });
    (service_id.is_some() || link.is_ok()).then_some(SalvagedCreation { service_id, link })
}

/// Reads the code of a refusal: the text of its member `message`.
pub(super) fn refusal_code(body: &[u8]) -> Option<String> {
    let mut found = FoundMembers::default();
    LenientReader::new(body).read(&mut found);
    if let Claim::Value(message) = found.message { Some(message) } else { None }
}

/// What an answer says about one value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Claim<T> {
    /// Nothing.
    #[default]
    None,
    Value(T),
    /// Something that can't be used, or two different values.
    Unusable,
}

impl<T: PartialEq> Claim<T> {
    fn of(value: Option<T>) -> Self {
        value.map_or(Self::Unusable, Self::Value)
    }

    /// Adds what another place says about the value.
    fn merge(&mut self, other: Self) {
        *self = match (std::mem::take(self), other) {
            (Self::None, only) | (only, Self::None) => only,
            (one, other) if one == other => one,
            _ => Self::Unusable,
        };
    }
}

/// The member `status` beside `data`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum EnvelopeStatus {
    Error,
    Other,
}

/// An object from which members are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The whole answer.
    Root,
    /// `data`, the documented place.
    Data,
    /// `user` or `result` beside `data`, or a further `data`, `user` or `result` in it.
    Inner(usize),
}

/// Names of objects that may hold the members: in `data` any of them, beside `data` all but the first.
const INNER_NAMES: [&str; 3] = ["data", "user", "result"];

/// The number of places, see [`Place::index`].
const PLACES: usize = 2 + 2 * INNER_NAMES.len();

impl Place {
    fn index(self) -> usize {
        match self {
            Self::Data => 0,
            Self::Root => 1,
            Self::Inner(index) => 2 + index,
        }
    }

    /// Returns the place that this member is. `None`: its members aren't read.
    fn enter(self, name: &str) -> Option<Self> {
        let inner = INNER_NAMES.iter().position(|known| *known == name)?;
        match self {
            Self::Root if inner == 0 => Some(Self::Data),
            Self::Root => Some(Self::Inner(inner)),
            Self::Data => Some(Self::Inner(INNER_NAMES.len() + inner)),
            Self::Inner(_) => None,
        }
    }
}

/// What one place says.
#[derive(Debug, Clone, Default)]
struct PlaceClaims {
    service_id: Claim<ServiceId>,
    /// Under the documented name.
    link: Claim<VerificationUrl>,
    /// Under another name.
    renamed_link: Claim<VerificationUrl>,
}

/// What the answer says.
#[derive(Debug, Default)]
struct FoundMembers {
    places: [PlaceClaims; PLACES],
    status: Claim<EnvelopeStatus>,
    message: Claim<String>,
}

impl FoundMembers {
    /// The id in the documented place, else the one in which all other places agree.
    fn service_id(&self) -> Option<ServiceId> {
        let [data, others @ ..] = &self.places;
        if let Claim::Value(id) = &data.service_id {
            return Some(id.clone());
        }
        let mut all = Claim::None;
        others.iter().for_each(|place| all.merge(place.service_id.clone()));
        if let Claim::Value(id) = all { Some(id) } else { None }
    }

    /// The link in the documented place, else the one in which all other places agree.
    ///
    /// # Errors
    /// There is none. `true`: no place says anything about a link.
    fn link(&self, service_id: Option<&ServiceId>) -> Result<VerificationUrl, bool> {
        let is_other_users =
            |place: &&PlaceClaims| matches!(&place.service_id, Claim::Value(id) if Some(id) != service_id);
        let own = || self.places.iter().filter(|place| !is_other_users(place));
        let data = own().filter(|place| std::ptr::eq(*place, &self.places[Place::Data.index()]));
        for claim in data.flat_map(|data| [&data.link, &data.renamed_link]) {
            if let Claim::Value(link) = claim {
                return Ok(link.clone());
            }
        }
        let mut all = Claim::None;
        own().flat_map(|place| [&place.link, &place.renamed_link]).for_each(|claim| all.merge(claim.clone()));
        match all {
            Claim::Value(link) => Ok(link),
            Claim::None => Err(true),
            Claim::Unusable => Err(false),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Member {
    ServiceId,
    Link,
    RenamedLink,
    Status,
    Message,
    Enter(Place),
    Skipped,
}

impl Member {
    fn of(place: Place, name: &str) -> Self {
        match name {
            "serviceId" | "service_id" => return Self::ServiceId,
            "verificationUrl" => return Self::Link,
            "verificationURL" | "verification_url" | "verificationLink" | "verification_link" => {
                return Self::RenamedLink;
            }
            "status" if place == Place::Root => return Self::Status,
            "message" if place == Place::Root => return Self::Message,
            _ => {}
        }
        place.enter(name).map_or(Self::Skipped, Self::Enter)
    }
}

/// The rest of the body can't be read: it ends, or it isn't JSON.
#[derive(Debug)]
struct CutOff;

/// A string or a number of the body.
enum Scalar {
    /// `None`: not a text, for example because of a broken escape.
    Text(Option<String>),
    /// A number, or one of the words of JSON.
    Word(String),
}

/// Reads JSON from left to right and remembers only what it looks for.
struct LenientReader<'b> {
    rest: &'b [u8],
}

impl<'b> LenientReader<'b> {
    fn new(body: &'b [u8]) -> Self {
        Self { rest: without_mark(body) }
    }

    /// Reads the body. Returns whether all of it could be read.
    fn read(&mut self, found: &mut FoundMembers) -> bool {
        if !begins_as_object(self.rest) {
            return false;
        }
        // A second object is read too: what it says must be the same.
        while begins_as_object(self.rest) {
            if self.object(Place::Root, found).is_err() {
                return false;
            }
        }
        true
    }

    /// Reads an object with known members.
    fn object(&mut self, place: Place, found: &mut FoundMembers) -> Result<(), CutOff> {
        self.members(|reader, name| reader.member(Member::of(place, name), place, found))
    }

    fn member(&mut self, member: Member, place: Place, found: &mut FoundMembers) -> Result<(), CutOff> {
        let begins_with = self.peek()?;
        let claims = &mut found.places[place.index()];
        match (member, begins_with) {
            (Member::Enter(inner), b'{') => return self.object(inner, found),
            (Member::Link | Member::RenamedLink, b'{') => {
                let mut link = Claim::None;
                let read = self.link_object(&mut link);
                // An object without a link is something else in place of one; half an object may have had one.
                if read.is_ok() && link == Claim::None {
                    link = Claim::Unusable;
                }
                let claim = if member == Member::Link { &mut claims.link } else { &mut claims.renamed_link };
                claim.merge(link);
                return read;
            }
            (Member::Enter(_) | Member::Skipped, _) => return self.skip(),
            (Member::ServiceId, b'{' | b'[') => claims.service_id = Claim::Unusable,
            (Member::Link, b'[') => claims.link = Claim::Unusable,
            (Member::RenamedLink, b'[') => claims.renamed_link = Claim::Unusable,
            (Member::ServiceId | Member::Link | Member::RenamedLink | Member::Status | Member::Message, _) => {}
        }
        if matches!(begins_with, b'{' | b'[') {
            return self.skip();
        }
        let scalar = self.scalar()?;
        match member {
            Member::ServiceId => claims.service_id.merge(service_id(&scalar)),
            Member::Link => claims.link.merge(link(&scalar)),
            Member::RenamedLink => claims.renamed_link.merge(link(&scalar)),
            Member::Status => found.status.merge(status(&scalar)),
            Member::Message => found.message.merge(message(scalar)),
            Member::Enter(_) | Member::Skipped => {}
        }
        Ok(())
    }

    /// Reads an object in place of a link.
    fn link_object(&mut self, found: &mut Claim<VerificationUrl>) -> Result<(), CutOff> {
        self.members(|reader, name| {
            let is_scalar = !matches!(reader.peek()?, b'{' | b'[');
            if !matches!(name, "url" | "href" | "link") || !is_scalar {
                return reader.skip();
            }
            let scalar = reader.scalar()?;
            found.merge(link(&scalar));
            Ok(())
        })
    }

    /// Reads an object, and calls `member` at the value of each member.
    fn members(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result<(), CutOff>) -> Result<(), CutOff> {
        self.expect(b'{')?;
        loop {
            match self.peek()? {
                b'}' => return self.expect(b'}'),
                // One too many is ignored.
                b',' => self.expect(b',')?,
                b'"' => {
                    let name = self.string()?.unwrap_or_default();
                    self.expect(b':')?;
                    member(self, &name)?;
                }
                _ => return Err(CutOff),
            }
        }
    }

    /// Skips a value, however deep it is.
    fn skip(&mut self) -> Result<(), CutOff> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                opening @ (b'{' | b'[') => {
                    self.expect(opening)?;
                    depth += 1;
                }
                closing @ (b'}' | b']') => {
                    self.expect(closing)?;
                    depth = depth.checked_sub(1).ok_or(CutOff)?;
                }
                between @ (b',' | b':') if depth > 0 => self.expect(between)?,
                b'"' => self.skip_string()?,
                _ => drop(self.word()?),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    fn scalar(&mut self) -> Result<Scalar, CutOff> {
        if self.peek()? == b'"' { self.string().map(Scalar::Text) } else { self.word().map(Scalar::Word) }
    }

    /// Reads a string. `None` where it is no text.
    fn string(&mut self) -> Result<Option<String>, CutOff> {
        let start = self.rest;
        self.skip_string()?;
        let length = start.len() - self.rest.len();
        Ok(unescaped(&start[..length]))
    }

    fn skip_string(&mut self) -> Result<(), CutOff> {
        let mut is_escaped = true;
        for (index, byte) in self.rest.iter().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    self.rest = &self.rest[index + 1..];
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(CutOff)
    }

    /// Reads a number, or a word such as `null`. It ends only where another byte follows: a number may be cut off.
    fn word(&mut self) -> Result<String, CutOff> {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = self.rest.iter().position(|byte| !is_part(byte)).ok_or(CutOff)?;
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        if word.is_empty() { Err(CutOff) } else { Ok(String::from_utf8_lossy(word).into_owned()) }
    }

    /// The first byte that is no white space.
    fn peek(&mut self) -> Result<u8, CutOff> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied().ok_or(CutOff)
    }

    fn expect(&mut self, byte: u8) -> Result<(), CutOff> {
        if self.peek()? != byte {
            return Err(CutOff);
        }
        self.rest = &self.rest[1..];
        Ok(())
    }
}

/// The text of a JSON string with its quotes. `None` where it isn't UTF-8 or has a broken escape.
fn unescaped(quoted: &[u8]) -> Option<String> {
    if let Ok(text) = serde_json::from_slice(quoted) {
        return Some(text);
    }
    // A control character that isn't escaped: the text isn't usable as an id or link, but a name may be all the same.
    let text = std::str::from_utf8(quoted.get(1..quoted.len().checked_sub(1)?)?).ok()?;
    (!text.contains('\\')).then(|| text.to_owned())
}

fn service_id(scalar: &Scalar) -> Claim<ServiceId> {
    match scalar {
        Scalar::Text(text) => Claim::of(text.as_deref().and_then(ServiceId::parse)),
        Scalar::Word(word) if word == "null" => Claim::None,
        Scalar::Word(word) => {
            let is_whole_number = word.bytes().all(|byte| byte.is_ascii_digit());
            Claim::of(ServiceId::parse(word).filter(|_| is_whole_number))
        }
    }
}

fn link(scalar: &Scalar) -> Claim<VerificationUrl> {
    match scalar {
        Scalar::Text(Some(text)) if text.is_empty() => Claim::None,
        Scalar::Text(text) => Claim::of(text.as_deref().and_then(VerificationUrl::parse)),
        Scalar::Word(word) if word == "null" => Claim::None,
        Scalar::Word(_) => Claim::Unusable,
    }
}

fn status(scalar: &Scalar) -> Claim<EnvelopeStatus> {
    let Scalar::Text(Some(text)) = scalar else { return Claim::None };
    Claim::Value(if is_error(text) { EnvelopeStatus::Error } else { EnvelopeStatus::Other })
}

fn message(scalar: Scalar) -> Claim<String> {
    if let Scalar::Text(Some(text)) = scalar { Claim::Value(text) } else { Claim::None }
}

#[cfg(test)]
mod tests;
