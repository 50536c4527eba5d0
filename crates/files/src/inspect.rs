//! What a file is, by its content: its type, and for images how large they are.
//!
//! Nothing here trusts a name or a type that somebody sent, and nothing here decodes: headers are walked through with bounded
//! reads, so that an image that would take too much is known before a byte is set aside for it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};

use image::metadata::Orientation;

use crate::{FilesError, Limits};

/// Bytes that are looked at for a file's type.
const HEAD: usize = 4096;
/// An EXIF block is no longer (a JPEG segment has 16 bits for it).
const EXIF_BYTES_MAX: usize = 1 << 16;
/// What nobody runs.
const HARMLESS: &str = "application/octet-stream";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileType {
    /// By its content.
    pub found: &'static str,
    /// As what it is handed out: the same, or `application/octet-stream` for what a browser might run or show.
    pub served: &'static str,
    pub(crate) image: Option<Image>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Png,
    Jpeg,
    Gif,
    WebP,
}

/// What a file was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspected {
    /// Its type.
    pub file_type: FileType,
    /// Width and height as it is to be shown, if it is an image.
    pub size: Option<(u32, u32)>,
}

impl FileType {
    const fn plain(found: &'static str) -> Self {
        Self { found, served: found, image: None }
    }

    const fn active(found: &'static str) -> Self {
        Self { found, served: HARMLESS, image: None }
    }

    const fn image(found: &'static str, image: Image) -> Self {
        Self { found, served: found, image: Some(image) }
    }

    /// The type of a file that begins like this.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        by_magic(head).unwrap_or_else(|| by_text(head))
    }

    /// Whether one of these, such as `image/png` or `image/*`, is its type. Of none at all, every type is.
    pub(crate) fn is_among(&self, types: &[String]) -> bool {
        let fits = |wanted: &String| match wanted.strip_suffix("/*") {
            Some(family) => self.found.split('/').next() == Some(family),
            None => wanted == self.found,
        };
        types.is_empty() || types.iter().any(fits)
    }
}

fn by_magic(head: &[u8]) -> Option<FileType> {
    let known: [(&[u8], FileType); 14] = [
        (b"\x89PNG\r\n\x1a\n", FileType::image("image/png", Image::Png)),
        (b"\xff\xd8\xff", FileType::image("image/jpeg", Image::Jpeg)),
        (b"GIF87a", FileType::image("image/gif", Image::Gif)),
        (b"GIF89a", FileType::image("image/gif", Image::Gif)),
        (b"OggS\0", FileType::plain("audio/ogg")),
        (b"fLaC", FileType::plain("audio/flac")),
        (b"ID3", FileType::plain("audio/mpeg")),
        (b"\x1a\x45\xdf\xa3", FileType::plain("video/webm")),
        (b"PK\x03\x04", FileType::plain("application/zip")),
        (b"\x1f\x8b", FileType::plain("application/gzip")),
        (b"7z\xbc\xaf\x27\x1c", FileType::plain("application/x-7z-compressed")),
        (b"Rar!\x1a\x07", FileType::plain("application/vnd.rar")),
        (b"II*\0", FileType::plain("image/tiff")),
        (b"MM\0*", FileType::plain("image/tiff")),
    ];
    if let Some((_, found)) = known.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(*found);
    }
    // Readers look for it anywhere in the beginning, so a polyglot may have it later.
    if head.iter().take(1024 + 5).copied().collect::<Vec<_>>().windows(5).any(|five| five == b"%PDF-") {
        return Some(FileType::active("application/pdf"));
    }
    match (head.get(..4), head.get(4..8), head.get(8..12)) {
        (Some(b"RIFF"), _, Some(b"WEBP")) => Some(FileType::image("image/webp", Image::WebP)),
        (Some(b"RIFF"), _, Some(b"WAVE")) => Some(FileType::plain("audio/wav")),
        (_, Some(b"ftyp"), Some(brand)) => Some(by_brand(brand)),
        _ if head.len() > 2 && head[0] == 0xff && head[1] & 0xe6 == 0xe2 => {
            Some(FileType::plain("audio/mpeg"))
        }
        _ => None,
    }
}

/// ISO 14496-12, section 4.3.
fn by_brand(brand: &[u8]) -> FileType {
    FileType::plain(match brand {
        b"avif" | b"avis" => "image/avif",
        b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" => "image/heic",
        b"M4A " | b"M4B " => "audio/mp4",
        b"qt  " => "video/quicktime",
        _ => "video/mp4",
    })
}

fn by_text(head: &[u8]) -> FileType {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // Cut in the middle of a character.
        Err(error) if error.error_len().is_none() && head.len() >= HEAD => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        // Other encodings of text exist, in which markup hides as well.
        Err(_) => return FileType::active(HARMLESS),
    };
    if text.chars().any(|char| char.is_control() && !matches!(char, '\n' | '\r' | '\t' | '\u{c}' | '\u{1b}'))
    {
        return FileType::active(HARMLESS);
    }
    let lower = text.to_ascii_lowercase();
    if lower.contains("<svg") {
        return FileType::active("image/svg+xml");
    }
    let markup = ["<!doctype html", "<html", "<head", "<body", "<script", "<iframe", "<object", "<embed"];
    if markup.iter().any(|sign| lower.contains(sign)) {
        return FileType::active("text/html");
    }
    let begins = lower.trim_start_matches('\u{feff}').trim_start();
    if begins.starts_with("<?xml") || begins.starts_with("<!doctype") {
        return FileType::active("application/xml");
    }
    if begins.starts_with('<') {
        return FileType::active(HARMLESS);
    }
    FileType::plain("text/plain")
}

/// Looks at a file.
///
/// # Errors
/// Its type is not among those that are accepted; it is an image that would take too much; or it cannot be read.
pub(crate) fn inspect(file: &File, limits: &Limits) -> Result<Inspected, FilesError> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let mut head = Vec::with_capacity(HEAD);
    reader.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let mut file_type = FileType::of(&head);
    let mut size = None;
    if let Some(kind) = file_type.image {
        reader.seek(SeekFrom::Start(0))?;
        match Outline::read(kind, &mut reader, limits.image_frames_max) {
            Ok(outline) => {
                outline.check(limits)?;
                size = Some(outline.shown());
            }
            Err(error) if is_of_content(&error) => file_type = FileType::active(HARMLESS),
            Err(error) => return Err(error.into()),
        }
    }
    if !file_type.is_among(&limits.types) {
        return Err(FilesError::Type { found: file_type.found.to_owned() });
    }
    Ok(Inspected { file_type, size })
}

/// Whether the content is at fault, not the disk.
fn is_of_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is not the image that it begins as")
}

/// How large an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outline {
    width: u32,
    height: u32,
    frames: u64,
    /// It is to be turned by a quarter.
    turned: bool,
}

impl Outline {
    fn read(kind: Image, reader: &mut BufReader<&File>, frames_max: u64) -> io::Result<Self> {
        match kind {
            Image::Png => png(reader, frames_max),
            Image::Jpeg => jpeg(reader),
            Image::Gif => gif(reader, frames_max),
            Image::WebP => webp(reader, frames_max),
        }
    }

    fn new(width: u32, height: u32) -> Self {
        Self { width, height, frames: 1, turned: false }
    }

    fn check(&self, limits: &Limits) -> Result<(), FilesError> {
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        let max = limits.image_pixels_max;
        if width * height > max {
            return Err(FilesError::Image { what: format!("{width} x {height} pixels"), max });
        }
        let max = limits.image_frames_max;
        if self.frames > max {
            return Err(FilesError::Image { what: format!("more than {max} frames"), max });
        }
        Ok(())
    }

    fn shown(&self) -> (u32, u32) {
        if self.turned { (self.height, self.width) } else { (self.width, self.height) }
    }
}

fn bytes<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn skip(reader: &mut BufReader<&File>, count: u64) -> io::Result<()> {
    reader.seek_relative(i64::try_from(count).map_err(|_| malformed())?)
}

/// Chunks up to the end: those with a frame each are counted (the PNG specification, third edition, sections 5 and 11.3.2).
fn png(reader: &mut BufReader<&File>, frames_max: u64) -> io::Result<Outline> {
    skip(reader, 8)?;
    let mut outline = None;
    let mut frames = 0;
    loop {
        let header = bytes::<8>(reader);
        let header = match (header, outline) {
            (Ok(header), _) => header,
            // Cut off, but begun.
            (Err(error), Some(outline)) if is_of_content(&error) => {
                return Ok(Outline { frames: frames.max(1), ..outline });
            }
            (Err(error), _) => return Err(error),
        };
        let length = u64::from(u32::from_be_bytes([header[0], header[1], header[2], header[3]]));
        match (&header[4..], outline) {
            (b"IHDR", None) if length == 13 => {
                let ihdr = bytes::<13>(reader)?;
                let number =
                    |at: usize| u32::from_be_bytes([ihdr[at], ihdr[at + 1], ihdr[at + 2], ihdr[at + 3]]);
                outline = Some(Outline::new(number(0), number(4)));
                skip(reader, 4)?;
                continue;
            }
            (_, None) => return Err(malformed()),
            (b"fcTL", _) => frames += 1,
            (b"acTL", _) if length == 8 => {
                let declared = u64::from(u32::from_be_bytes(bytes::<4>(reader)?));
                frames = if declared > frames_max { declared } else { frames };
                skip(reader, 8)?;
                if frames <= frames_max {
                    continue;
                }
            }
            (b"IEND", _) => return Ok(Outline { frames: frames.max(1), ..outline.ok_or_else(malformed)? }),
            _ => {}
        }
        if frames > frames_max {
            return Ok(Outline { frames, ..outline.ok_or_else(malformed)? });
        }
        skip(reader, length + 4)?;
    }
}

/// Segments up to the one that says how large it is (ITU-T T.81, section B.1.1).
fn jpeg(reader: &mut BufReader<&File>) -> io::Result<Outline> {
    skip(reader, 2)?;
    let mut turned = false;
    loop {
        let [mark, mut code] = bytes::<2>(reader)?;
        if mark != 0xff {
            return Err(malformed());
        }
        while code == 0xff {
            [code] = bytes::<1>(reader)?;
        }
        if matches!(code, 0x01 | 0xd0..=0xd8) {
            continue;
        }
        let length =
            usize::from(u16::from_be_bytes(bytes::<2>(reader)?)).checked_sub(2).ok_or_else(malformed)?;
        match code {
            // Start of frame; the others in this range are tables.
            0xc0..=0xcf if !matches!(code, 0xc4 | 0xc8 | 0xcc) => {
                let frame = bytes::<5>(reader)?;
                let number = |at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
                return Ok(Outline { turned, ..Outline::new(number(3), number(1)) });
            }
            // End of image, or its data, before its frame.
            0xd9 | 0xda => return Err(malformed()),
            0xe1 if length <= EXIF_BYTES_MAX => {
                let mut segment = vec![0; length];
                reader.read_exact(&mut segment)?;
                if let Some(exif) = segment.strip_prefix(b"Exif\0\0") {
                    turned = is_turned(Orientation::from_exif_chunk(exif));
                }
            }
            _ => skip(reader, length as u64)?,
        }
    }
}

fn is_turned(orientation: Option<Orientation>) -> bool {
    matches!(
        orientation,
        Some(
            Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH
        )
    )
}

/// Blocks up to the end (GIF89a, sections 17 to 27).
fn gif(reader: &mut BufReader<&File>, frames_max: u64) -> io::Result<Outline> {
    let header = bytes::<13>(reader)?;
    let number = |at: usize| u32::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let mut outline = Outline { frames: 0, ..Outline::new(number(6), number(8)) };
    skip_colours(reader, header[10])?;
    while outline.frames <= frames_max {
        match bytes::<1>(reader).map(|[block]| block) {
            Ok(0x2c) => {
                let image = bytes::<9>(reader)?;
                outline.frames += 1;
                let number = |at: usize| u32::from(u16::from_le_bytes([image[at], image[at + 1]]));
                // A frame may be larger than the canvas that it is drawn on.
                outline.width = outline.width.max(number(0) + number(4));
                outline.height = outline.height.max(number(2) + number(6));
                skip_colours(reader, image[8])?;
                skip(reader, 1)?;
                skip_blocks(reader)?;
            }
            Ok(0x21) => {
                skip(reader, 1)?;
                skip_blocks(reader)?;
            }
            // The end, or what decoders take for it.
            Ok(_) => break,
            Err(error) if is_of_content(&error) => break,
            Err(error) => return Err(error),
        }
    }
    if outline.frames == 0 { Err(malformed()) } else { Ok(outline) }
}

fn skip_colours(reader: &mut BufReader<&File>, flags: u8) -> io::Result<()> {
    if flags & 0x80 == 0 {
        return Ok(());
    }
    skip(reader, 3 << ((flags & 7) + 1))
}

fn skip_blocks(reader: &mut BufReader<&File>) -> io::Result<()> {
    loop {
        match bytes::<1>(reader)? {
            [0] => return Ok(()),
            [length] => skip(reader, length.into())?,
        }
    }
}

/// Chunks up to the end (RFC 9649, section 2).
fn webp(reader: &mut BufReader<&File>, frames_max: u64) -> io::Result<Outline> {
    skip(reader, 12)?;
    let mut outline: Option<Outline> = None;
    let mut frames = 0;
    while frames <= frames_max {
        let header = match bytes::<8>(reader) {
            Ok(header) => header,
            Err(error) if is_of_content(&error) => break,
            Err(error) => return Err(error),
        };
        let length = u64::from(u32::from_le_bytes([header[4], header[5], header[6], header[7]]));
        let padded = length + (length & 1);
        let (read, found) = match &header[..4] {
            b"VP8X" if length >= 10 => {
                let vp8x = bytes::<10>(reader)?;
                let number = |at: usize| u32::from_le_bytes([vp8x[at], vp8x[at + 1], vp8x[at + 2], 0]) + 1;
                (10, Some((number(4), number(7))))
            }
            b"VP8 " if length >= 10 => {
                let vp8 = bytes::<10>(reader)?;
                let number = |at: usize| u32::from(u16::from_le_bytes([vp8[at], vp8[at + 1]]) & 0x3fff);
                (10, Some((number(6), number(8))))
            }
            b"VP8L" if length >= 5 => {
                let vp8l = bytes::<5>(reader)?;
                let bits = u32::from_le_bytes([vp8l[1], vp8l[2], vp8l[3], vp8l[4]]);
                (5, Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1)))
            }
            b"ANMF" => {
                frames += 1;
                (0, None)
            }
            _ => (0, None),
        };
        if let Some((width, height)) = found {
            let so_far = outline.get_or_insert(Outline::new(width, height));
            (so_far.width, so_far.height) = (so_far.width.max(width), so_far.height.max(height));
        }
        skip(reader, padded - read)?;
    }
    outline.map(|outline| Outline { frames: frames.max(1), ..outline }).ok_or_else(malformed)
}
