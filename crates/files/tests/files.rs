//! Files from their first byte to their end, on a real disk.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use outspoke_files::{
    Checksum, Draft, FileId, Files, FilesConfig, FilesError, Limits, Owner, Part, Preview, Record,
};
use tempfile::TempDir;

struct Place {
    folder: TempDir,
    files: Files,
}

impl Place {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(set: impl FnOnce(&mut Limits)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = FilesConfig::at(folder.path());
        set(&mut config.limits);
        let files = Files::open(config).unwrap();
        Self { folder, files }
    }

    /// The same folder, as another process would find it.
    fn opened_again(self) -> Self {
        let Self { folder, files } = self;
        let limits = (*files.limits()).clone();
        drop(files);
        let mut config = FilesConfig::at(folder.path());
        config.limits = limits;
        Self { files: Files::open(config).unwrap(), folder }
    }

    fn begin(&self, user: &str, length: usize) -> Result<Record, FilesError> {
        self.files.create(Draft { length: length as u64, ..Draft::of(Owner::new("", user)) })
    }

    fn upload(&self, user: &str, bytes: &[u8]) -> Result<Record, FilesError> {
        let id = self.begin(user, bytes.len())?.id;
        let mut part = self.files.append(id, 0, None)?;
        part.write(bytes)?;
        part.finish()?;
        self.files.complete(id)
    }

    fn content(&self, record: &Record) -> Vec<u8> {
        let content = self.files.content(record).unwrap();
        let mut bytes = vec![0; usize::try_from(content.length()).unwrap()];
        assert_eq!(content.read_at(0, &mut bytes).unwrap(), bytes.len());
        bytes
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        walk(&self.folder.path().join("blobs"), &mut found);
        found
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn photo(width: u32, height: u32) -> DynamicImage {
    // Left red, right blue: which way round it is can be seen.
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) })
        .into()
}

#[test]
fn upload_in_many_parts_across_restarts_has_the_right_hash() {
    let mut place = Place::new();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    let record = place.begin("alice", bytes.len()).unwrap();
    for chunk in bytes.chunks(9_999) {
        place = place.opened_again();
        let at = place.files.offset(&place.files.record(record.id).unwrap()).unwrap();
        let mut part = place.files.append(record.id, at, None).unwrap();
        part.write(chunk).unwrap();
        // Dropped unfinished every time, as when a connection breaks.
    }
    let record = place.files.complete(record.id).unwrap();
    assert_eq!(record.facts().unwrap().sha256, hex(&sha256(&bytes)));
    assert_eq!(place.content(&record), bytes);
    assert!(matches!(place.files.append(record.id, 0, None), Err(FilesError::Finished)));
}

#[test]
fn half_file_is_neither_completed_nor_lent_nor_attached() {
    let place = Place::new();
    let record = place.begin("alice", 10).unwrap();
    place.files.append(record.id, 0, None).unwrap().write(b"12345").unwrap();
    assert!(matches!(place.files.complete(record.id), Err(FilesError::Unfinished)));
    assert!(matches!(place.files.content(&record), Err(FilesError::Unfinished)));
    let owner = Owner::new("", "alice");
    assert!(matches!(place.files.attach(&owner, &[record.id], "lobby"), Err(FilesError::Unfinished)));
    assert!(matches!(place.files.append(record.id, 4, None), Err(FilesError::Offset { at: 5 })));
    let mut part = place.files.append(record.id, 5, None).unwrap();
    assert!(matches!(part.write(b"678901"), Err(FilesError::TooLong { length: 10 })));
    assert!(matches!(place.files.append(record.id, 5, None), Err(FilesError::Busy)));
    assert_eq!(place.blobs(), Vec::<PathBuf>::new());
}

#[test]
fn part_with_a_wrong_checksum_or_without_its_end_does_not_count() {
    let place = Place::new();
    let record = place.begin("alice", 10).unwrap();
    let checksum =
        |bytes: &[u8]| Checksum::parse(&format!("sha256 {}", STANDARD.encode(sha256(bytes)))).unwrap();
    let mut part = place.files.append(record.id, 0, Some(checksum(b"12345"))).unwrap();
    part.write(b"12345").unwrap();
    assert_eq!(part.finish().unwrap(), 5);
    let mut part = place.files.append(record.id, 5, Some(checksum(b"67890"))).unwrap();
    part.write(b"67x90").unwrap();
    assert!(matches!(part.finish(), Err(FilesError::Checksum)));
    let mut part = place.files.append(record.id, 5, Some(checksum(b"67890"))).unwrap();
    part.write(b"678").unwrap();
    drop(part);
    assert_eq!(place.files.offset(&place.files.record(record.id).unwrap()).unwrap(), 5);
    // Killed in the middle: nothing takes it back but the next one that looks.
    let mut part = place.files.append(record.id, 5, Some(checksum(b"67890"))).unwrap();
    part.write(b"999").unwrap();
    let _never_dropped = std::mem::ManuallyDrop::new(part);
    let place = place.opened_again();
    assert_eq!(place.files.offset(&place.files.record(record.id).unwrap()).unwrap(), 5);
    place.files.append(record.id, 5, None).unwrap().write(b"67890").unwrap();
    assert_eq!(place.content(&place.files.complete(record.id).unwrap()), b"1234567890");
    for unknown in ["", "sha256", "md5 AAAA", "sha1 AAAA", "sha256 !"] {
        assert_eq!(Checksum::parse(unknown), None, "{unknown}");
    }
}

#[test]
fn same_content_is_kept_once_and_goes_with_the_last_file_that_has_it() {
    use std::os::unix::fs::MetadataExt as _;
    let place = Place::new();
    let first = place.upload("alice", b"the same").unwrap();
    let second = place.upload("bob", b"the same").unwrap();
    let blobs = place.blobs();
    assert_eq!(blobs.len(), 2);
    assert_eq!(blobs[0].metadata().unwrap().ino(), blobs[1].metadata().unwrap().ino());
    place.files.remove(first.id).unwrap();
    assert_eq!(place.content(&second), b"the same");
    place.files.remove(second.id).unwrap();
    assert_eq!(place.blobs(), Vec::<PathBuf>::new());
    assert!(matches!(place.files.record(second.id), Err(FilesError::NotFound)));
}

#[test]
fn what_has_no_record_is_cleared_away_at_the_start() {
    let place = Place::new();
    let record = place.upload("alice", b"content").unwrap();
    for path in place.blobs() {
        std::fs::copy(&path, path.with_file_name("0123456789abcdef0123456789abcdef")).unwrap();
    }
    std::fs::write(place.folder.path().join("parts/0123456789abcdef0123456789abcdef"), b"x").unwrap();
    // Long ago: nobody is writing it.
    let mut left_over = place.blobs();
    left_over.push(place.folder.path().join("parts/0123456789abcdef0123456789abcdef"));
    for path in left_over {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let place = place.opened_again();
    assert_eq!(place.blobs().len(), 1);
    assert_eq!(std::fs::read_dir(place.folder.path().join("parts")).unwrap().count(), 0);
    assert_eq!(place.content(&record), b"content");
}

#[test]
fn quotas_count_what_is_announced_and_give_back_what_goes() {
    let place = Place::with(|limits| {
        limits.file_bytes_max = 20_000;
        limits.user_bytes_max = 30_000;
        limits.tenant_bytes_max = 45_000;
        limits.unfinished_per_user_max = 2;
    });
    assert!(matches!(place.begin("alice", 20_001), Err(FilesError::TooLarge { max: 20_000 })));
    let first = place.begin("alice", 20_000).unwrap();
    assert!(matches!(place.begin("alice", 10_001), Err(FilesError::Quota { of: "a user", .. })));
    place.begin("alice", 10_000).unwrap();
    assert!(matches!(place.begin("alice", 0), Err(FilesError::TooManyUploads { max: 2 })));
    assert!(matches!(place.begin("bob", 15_001), Err(FilesError::Quota { of: "this tenant", .. })));
    place.begin("bob", 15_000).unwrap();
    let elsewhere = Draft { length: 20_000, ..Draft::of(Owner::new("acme", "bob")) };
    place.files.create(elsewhere).unwrap();
    place.files.remove(first.id).unwrap();
    place.begin("alice", 15_000).unwrap();
    let place = place.opened_again();
    let usage = place.files.usage(&Owner::new("", "alice"));
    assert_eq!((usage.files, usage.unfinished, usage.bytes), (2, 2, 25_000));
    assert_eq!(place.files.tenant_usage("").bytes, 40_000);
}

#[test]
fn content_decides_what_a_file_is_and_nothing_active_has_a_type() {
    let place = Place::new();
    let served = |bytes: &[u8]| place.upload("alice", bytes).unwrap().facts().unwrap().media_type.clone();
    let harmless = "application/octet-stream";
    assert_eq!(served(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"), harmless);
    assert_eq!(served(b"\xef\xbb\xbf  <?xml version='1.0'?><x/>"), harmless);
    assert_eq!(served(b"<!DOCTYPE HTML><script>alert(1)</script>"), harmless);
    assert_eq!(served(b"hello <script>alert(1)</script>"), harmless);
    assert_eq!(served(b"%PDF-1.7 ..."), harmless);
    assert_eq!(served(b"x %PDF-1.7 ..."), harmless);
    assert_eq!(served(b"MZ\x90\0"), harmless);
    assert_eq!(served(b"\xfe\xff\0<\0s\0v\0g"), harmless);
    assert_eq!(served(b"GIF89a/*\x01\x01=alert(1)"), harmless);
    assert_eq!(served(b"\x89PNG\r\n\x1a\n<script>"), harmless);
    assert_eq!(served(b"\xff\xd8\xff\xe0<svg"), harmless);
    assert_eq!(served(b"just words"), "text/plain");
    assert_eq!(served(b""), "text/plain");
    assert_eq!(served(b"PK\x03\x04..."), "application/zip");
    assert_eq!(served(b"\0\0\0\x20ftypisom"), "video/mp4");
    assert_eq!(served(&encoded(&photo(4, 4), ImageFormat::Png)), "image/png");
    let place = Place::with(|limits| limits.types = vec!["image/*".to_owned(), "application/pdf".to_owned()]);
    place.upload("alice", b"%PDF-1.7").unwrap();
    let refused = place.upload("alice", b"words");
    assert!(matches!(refused, Err(FilesError::Type { found }) if found == "text/plain"));
    assert_eq!(place.files.usage(&Owner::new("", "alice")).files, 1);
}

fn big_png(width: u32, height: u32) -> Vec<u8> {
    let mut png = encoded(&photo(1, 1), ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    png
}

fn long_gif(frames: usize) -> Vec<u8> {
    let mut gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
    (0..frames).for_each(|_| gif.extend(b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"));
    gif.push(b';');
    gif
}

#[test]
fn images_that_would_take_too_much_are_refused_before_they_are_decoded() {
    let place = Place::new();
    let refused = |bytes: &[u8]| matches!(place.upload("alice", bytes), Err(FilesError::Image { .. }));
    assert!(refused(&big_png(30_000, 30_000)));
    assert!(refused(&long_gif(50_000)));
    assert!(!refused(&long_gif(900)));
    let mut webp = encoded(&photo(8, 8), ImageFormat::WebP);
    // Of VP8L: 14 bits of width and height each, less one.
    webp[21..25].copy_from_slice(&0x0fff_ffff_u32.to_le_bytes());
    assert!(refused(&webp));
    let mut jpeg = encoded(&photo(8, 8), ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    assert!(refused(&jpeg));
    assert_eq!(place.files.usage(&Owner::new("", "alice")).files, 1);
}

#[test]
fn preview_is_small_turned_and_has_nothing_of_the_original_but_what_is_seen() {
    let place = Place::with(|limits| limits.preview_pixels = 100);
    let mut jpeg = encoded(&photo(400, 200), ImageFormat::Jpeg);
    // EXIF with orientation 6 (turn right by a quarter), and a secret.
    let mut exif =
        b"\xff\xe1\0\0Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0SECRET PLACE"
            .to_vec();
    let length = u16::try_from(exif.len() - 2).unwrap();
    exif[2..4].copy_from_slice(&length.to_be_bytes());
    jpeg.splice(2..2, exif);
    let record = place.upload("alice", &jpeg).unwrap();
    assert_eq!((record.facts().unwrap().width, record.facts().unwrap().height), (Some(200), Some(400)));
    let record = place.files.with_preview(record.id, Duration::from_secs(60)).unwrap();
    let facts = record.facts().unwrap();
    assert_eq!((facts.preview, facts.width, facts.height), (Preview::Jpeg, Some(200), Some(400)));
    let content = place.files.preview(&record).unwrap();
    let mut bytes = vec![0; usize::try_from(content.length()).unwrap()];
    content.read_at(0, &mut bytes).unwrap();
    assert!(!bytes.windows(6).any(|six| six == b"SECRET") && !bytes.windows(4).any(|four| four == b"Exif"));
    let small = image::load_from_memory(&bytes).unwrap().to_rgb8();
    assert_eq!(small.dimensions(), (50, 100));
    // What was left is on top.
    assert!(small.get_pixel(25, 10).0[0] > 200 && small.get_pixel(25, 90).0[2] > 200);
}

#[test]
fn images_of_every_kind_have_previews_and_broken_ones_have_none() {
    let place = Place::new();
    let preview = |bytes: &[u8]| {
        let record = place.upload("alice", bytes).unwrap();
        place.files.with_preview(record.id, Duration::from_secs(60)).unwrap().facts().unwrap().preview
    };
    let glass: DynamicImage = RgbaImage::from_pixel(20, 10, Rgba([1, 2, 3, 100])).into();
    assert_eq!(preview(&encoded(&glass, ImageFormat::Png)), Preview::Png);
    assert_eq!(preview(&encoded(&glass, ImageFormat::WebP)), Preview::Png);
    assert_eq!(preview(&encoded(&photo(20, 10), ImageFormat::Gif)), Preview::Jpeg);
    assert_eq!(preview(&encoded(&photo(20, 10), ImageFormat::Jpeg)), Preview::Jpeg);
    assert_eq!(preview(b"words"), Preview::None);
    assert_eq!(preview(&big_png(7_000, 7_000)), Preview::None);
    let png = encoded(&photo(200, 100), ImageFormat::Png);
    assert_eq!(preview(&png[..png.len() / 2]), Preview::None);
}

#[test]
fn file_goes_with_the_last_room_that_it_was_sent_to() {
    let place = Place::new();
    let record = place.upload("alice", b"content").unwrap();
    let (alice, bob) = (Owner::new("", "alice"), Owner::new("", "bob"));
    assert!(matches!(place.files.attach(&bob, &[record.id], "lobby"), Err(FilesError::NotFound)));
    let ids = [record.id];
    place.files.attach(&alice, &ids, "lobby").unwrap();
    place.files.attach(&alice, &ids, "lobby").unwrap();
    let attached = place.files.attach(&alice, &ids, "news").unwrap();
    assert!(attached[0].is_in("lobby") && attached[0].is_in("news") && !attached[0].is_in("other"));
    let rooms = place.files.attached().unwrap();
    assert_eq!(rooms.keys().map(|(_, room)| room.as_str()).collect::<Vec<_>>(), ["lobby", "news"]);
    assert!(!place.files.detach(record.id, "lobby").unwrap());
    assert!(place.files.detach(record.id, "news").unwrap());
    assert!(!place.files.detach(record.id, "news").unwrap());
    assert_eq!(place.blobs(), Vec::<PathBuf>::new());
}

#[test]
fn sweep_takes_what_has_expired_and_what_nobody_sent() {
    let place = Place::with(|limits| limits.orphan_lifetime = Duration::ZERO);
    let owner = Owner::new("", "alice");
    let sent = place.upload("alice", b"sent").unwrap();
    place.files.attach(&owner, &[sent.id], "lobby").unwrap();
    let orphan = place.upload("alice", b"never sent").unwrap();
    let slow = place.begin("alice", 10).unwrap();
    let swept = place.files.sweep().unwrap();
    assert_eq!((swept.expired, swept.orphans), (0, 1));
    assert!(matches!(place.files.record(orphan.id), Err(FilesError::NotFound)));
    let mut limits = (*place.files.limits()).clone();
    limits.unfinished_lifetime = Duration::ZERO;
    place.files.set_limits(limits);
    let expired = place.begin("alice", 10).unwrap();
    assert!(matches!(place.files.record(expired.id), Err(FilesError::NotFound)));
    assert_eq!(place.files.sweep().unwrap().expired, 1);
    place.files.record(slow.id).unwrap();
    assert_eq!(place.files.usage(&owner).files, 2);
}

#[test]
fn erasing_takes_everything_of_a_user_and_nothing_of_others() {
    let place = Place::new();
    place.upload("alice", b"one").unwrap();
    place.begin("alice", 10).unwrap();
    let other = place.upload("bob", b"two").unwrap();
    let elsewhere = place.files.create(Draft::of(Owner::new("acme", "alice"))).unwrap();
    assert_eq!(place.files.erase("", Some("alice")).unwrap(), 2);
    assert_eq!(place.files.of_user(&Owner::new("", "alice")).unwrap(), []);
    place.files.record(other.id).unwrap();
    assert_eq!(place.files.erase("acme", None).unwrap(), 1);
    assert!(matches!(place.files.record(elsewhere.id), Err(FilesError::NotFound)));
}

#[test]
fn links_outlive_a_restart_and_their_key_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let record = place.upload("alice", b"content").unwrap();
    let (expires, signature) = place.files.link(record.id, Part::Content);
    let key = place.folder.path().join("link.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let place = place.opened_again();
    assert_eq!(place.files.check_link(record.id, Part::Content, expires, &signature), Ok(()));
    assert!(place.files.check_link(record.id, Part::Preview, expires, &signature).is_err());
    let other: FileId = "0123456789abcdef0123456789abcdef".parse().unwrap();
    assert!(place.files.check_link(other, Part::Content, expires, &signature).is_err());
}
