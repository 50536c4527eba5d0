//! Small pictures of images, made by a few threads of their own.
//!
//! What they get was [inspected](crate::inspect): it is no larger than is accepted. Still, whoever made it may mean harm, so that
//! memory is bounded before it is set aside, reading is bounded in time, and a decoder that panics fails with its image alone.
//! Pictures are decoded and encoded anew, so that nothing of the original is in them but what is seen: no EXIF, no profiles, no
//! text, and nothing behind the end. They are turned as the camera says that they are to be shown.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use image::codecs::gif::GifDecoder;
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat};

use crate::files::Shared;
use crate::inspect::Image;
use crate::{FileId, Limits, Preview};

/// How good a picture without transparency is, of 100.
const QUALITY: u8 = 80;

/// Images that wait for their picture.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Something has changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<FileId>,
    working: Vec<FileId>,
    stopping: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an image into the queue, if there is room. Returns whether it is in it, or being worked on.
    pub(crate) fn put(&self, id: FileId, max: usize) -> bool {
        let mut state = self.state();
        if state.waiting.contains(&id) || state.working.contains(&id) {
            return true;
        }
        if state.stopping || state.waiting.len() >= max {
            return false;
        }
        state.waiting.push_back(id);
        self.changed.notify_all();
        true
    }

    /// Waits until an image is neither in the queue nor worked on, or the time is over.
    pub(crate) fn wait(&self, id: FileId, timeout: Duration) {
        let pending = |state: &mut State| state.waiting.contains(&id) || state.working.contains(&id);
        drop(self.changed.wait_timeout_while(self.state(), timeout, pending));
    }

    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<FileId> {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.stopping;
        let mut state = self.changed.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        if state.stopping {
            return None;
        }
        let id = state.waiting.pop_front()?;
        state.working.push(id);
        Some(id)
    }

    fn done(&self, id: FileId) {
        self.state().working.retain(|working| *working != id);
        self.changed.notify_all();
    }
}

/// Starts a thread that makes pictures until it is told to stop, or nobody is left who wants any.
pub(crate) fn work(shared: &Arc<Shared>) -> io::Result<()> {
    let (queue, shared) = (Arc::clone(&shared.queue), Arc::downgrade(shared));
    let thread = std::thread::Builder::new().name("outspoke-preview".to_owned());
    thread.spawn(move || {
        while let Some(id) = queue.next() {
            make_for(&shared, id);
            queue.done(id);
        }
    })?;
    Ok(())
}

fn make_for(shared: &Weak<Shared>, id: FileId) {
    let Some(shared) = shared.upgrade() else { return };
    if let Err(error) = shared.make_preview(id) {
        tracing::warn!(%id, %error, "a preview was not kept");
    }
}

/// A small picture.
#[derive(Debug)]
pub(crate) struct Picture {
    pub(crate) kind: Preview,
    pub(crate) bytes: Vec<u8>,
    /// Of the image, as it is to be shown.
    pub(crate) size: (u32, u32),
}

/// Makes the picture of an image. `None`: it cannot be read, or would take too much.
pub(crate) fn picture(file: File, kind: Image, limits: &Limits) -> Option<Picture> {
    // Whatever the decoder leaves behind is dropped with it.
    let made = catch_unwind(AssertUnwindSafe(|| {
        let image = decode(file, kind, limits)?;
        encode(&image, limits)
    }));
    match made {
        Ok(Ok(picture)) => Some(picture),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no preview of an image");
            None
        }
        Err(_) => {
            tracing::warn!(?kind, "a decoder panicked");
            None
        }
    }
}

fn decode(file: File, kind: Image, limits: &Limits) -> Result<DynamicImage, ImageError> {
    let memory = limits.preview_memory_max;
    // The JPEG decoder holds all of its input.
    if kind == Image::Jpeg && file.metadata()?.len() > memory / 4 {
        return Err(too_large());
    }
    let reader = BufReader::new(Timed { file, deadline: Instant::now() + limits.preview_timeout });
    match kind {
        Image::Png => bounded(PngDecoder::new(reader)?, limits),
        Image::Jpeg => bounded(JpegDecoder::new(reader)?, limits),
        Image::Gif => bounded(GifDecoder::new(reader)?, limits),
        Image::WebP => bounded(WebPDecoder::new(reader)?, limits),
    }
}

fn bounded(mut decoder: impl ImageDecoder, limits: &Limits) -> Result<DynamicImage, ImageError> {
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(limits.preview_memory_max);
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.image_pixels_max {
        return Err(too_large());
    }
    // What the image itself takes is not the decoder's to count.
    bounds.reserve(decoder.total_bytes())?;
    decoder.set_limits(bounds)?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn too_large() -> ImageError {
    ImageError::Limits(image::error::LimitError::from_kind(image::error::LimitErrorKind::InsufficientMemory))
}

fn encode(image: &DynamicImage, limits: &Limits) -> Result<Picture, ImageError> {
    let size = (image.width(), image.height());
    let max = limits.preview_pixels.max(16);
    let small = if size.0.max(size.1) > max { image.thumbnail(max, max) } else { image.clone() };
    let mut bytes = Cursor::new(Vec::new());
    let see_through = small
        .color()
        .has_alpha()
        .then(|| small.to_rgba8())
        .filter(|pixels| pixels.pixels().any(|p| p.0[3] < 255));
    let kind = match see_through {
        Some(pixels) => {
            pixels.write_to(&mut bytes, ImageFormat::Png)?;
            Preview::Png
        }
        None => {
            small.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
            Preview::Jpeg
        }
    };
    Ok(Picture { kind, bytes: bytes.into_inner(), size })
}

/// A file that can be read for a while.
struct Timed {
    file: File,
    deadline: Instant,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if Instant::now() > self.deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "decoding took too long"));
        }
        self.file.read(buffer)
    }
}

impl Seek for Timed {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
