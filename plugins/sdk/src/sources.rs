//! The data files, each by itself: a mistake in one holds back only that one.
//!
//! A file that was changed and has mistakes counts as it was before; at a start what is good of it counts. Data are made of what counts, in the
//! order of the configuration. Readers get the newest without waiting for a look. Never writes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::file::Watched;
use crate::wire::Mistake;

/// Adds what is good of a file to the data: its place in the configuration, its name and its text. Every mistake.
pub type Reader<T> = Box<dyn Fn(usize, &str, &str, &mut T) -> Vec<Mistake> + Send + Sync>;

/// Data made of files.
pub struct Sources<T> {
    files: Mutex<Vec<Counted>>,
    data: RwLock<Arc<T>>,
    is_whole: AtomicBool,
    reader: Reader<T>,
}

/// A file, and what counts of it.
struct Counted {
    file: Watched,
    /// The text that counts, maybe an older one. `None`: it could not be read yet.
    text: Option<String>,
}

/// What a look found that read something new.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// Every mistake in them.
    pub mistakes: Vec<Mistake>,
    /// The files that count as they were before.
    pub held_back: Vec<String>,
}

impl Seen {
    /// A line of health, with the files that are held back.
    pub fn said(&self, line: &str) -> String {
        match self.held_back.as_slice() {
            [] => line.to_owned(),
            files => format!("{line}; held back until right: {}", files.join(", ")),
        }
    }
}

impl<T: Clone + Default> Sources<T> {
    /// Reads the files for the first time.
    pub fn open(
        paths: &[PathBuf],
        reader: impl Fn(usize, &str, &str, &mut T) -> Vec<Mistake> + Send + Sync + 'static,
    ) -> (Self, Seen) {
        let counted = |path| {
            let mut file = Watched::new(path);
            file.look();
            let text = file.text().ok().map(str::to_owned);
            Counted { file, text }
        };
        let sources = Self {
            files: Mutex::new(paths.iter().map(counted).collect()),
            data: RwLock::default(),
            is_whole: AtomicBool::new(false),
            reader: Box::new(reader),
        };
        let seen = sources.read(&mut sources.files.lock().unwrap_or_else(PoisonError::into_inner));
        (sources, seen)
    }

    /// Looks at the files again. `None`: they are as they were.
    pub fn look(&self) -> Option<Seen> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = files.iter_mut().filter_map(|counted| counted.file.look().then_some(()));
        (changed.count() > 0).then(|| self.read(&mut files))
    }

    /// The data.
    pub fn data(&self) -> Arc<T> {
        Arc::clone(&self.data.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether nothing was left out of the texts that count: what is not in the data is gone from the files.
    pub fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Relaxed)
    }

    fn read(&self, files: &mut [Counted]) -> Seen {
        let (mut data, mut seen, mut is_whole) = (T::default(), Seen::default(), true);
        for (place, counted) in files.iter_mut().enumerate() {
            let name = counted.file.name();
            let (mut next, mut text) = (data.clone(), None);
            let mistakes = match counted.file.text() {
                Ok(read) => {
                    text = Some(read.to_owned());
                    (self.reader)(place, name, read, &mut next)
                }
                Err(mistake) => vec![mistake],
            };
            if mistakes.is_empty() || text == counted.text {
                is_whole &= mistakes.is_empty();
                (data, counted.text) = (next, text);
            } else {
                let kept = counted.text.as_deref();
                let left_out = kept.map(|text| (self.reader)(place, name, text, &mut data));
                is_whole &= left_out.is_some_and(|left_out| left_out.is_empty());
                seen.held_back.push(name.to_owned());
            }
            seen.mistakes.extend(mistakes);
        }
        *self.data.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(data);
        self.is_whole.store(is_whole, Ordering::Relaxed);
        seen
    }
}
