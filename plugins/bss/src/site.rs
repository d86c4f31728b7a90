//! Upstream mode: the boot parameters of a site, mirrored. The book is the mirror; what the site lists becomes the next one.
//!
//! Reads are answered from the book, and say when it may be old. Writes are the site's: they are passed on with their client's token, and read
//! back. boot-service is only read.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use bootd_sdk::changes::Changes;
use bootd_sdk::lead::Name;
use bootd_sdk::prelude::*;
use bootd_sdk::upstream::{Listed as Collection, Loss, Mirror, Site, Trust};
use bootd_sdk::wire::Health;

use crate::ledger::{Ledger, NotWritten};
use crate::listed::{self, Listed};
use crate::mirror;
use crate::settings::{Api, Upstream};

/// A site that is mirrored.
pub(crate) struct Mirrored {
    site: Site,
    api: Api,
    /// What names it in URLs. `None`: those stay as they are.
    names: Option<Vec<Name>>,
    /// What is wrong with entries of what is mirrored.
    mistakes: Mutex<Vec<Mistake>>,
}

impl Mirrored {
    /// Asks nothing yet.
    pub(crate) fn new(host: Host, settings: &Upstream, folder: &std::path::Path) -> Self {
        let collections = match settings.api {
            Api::Bss => PARAMETERS,
            Api::BootService => CONFIGURATIONS,
        };
        Self {
            site: Site::new(host, &settings.site(), folder, settings.service(), collections),
            api: settings.api,
            names: settings.rewrite.then(|| Name::all(settings.names())),
            mistakes: Mutex::default(),
        }
    }

    /// What names the site in URLs that lead here; `None`: they stay as they are.
    pub(crate) fn names(&self) -> Option<&[Name]> {
        self.names.as_deref()
    }

    /// Asks the site when it is time.
    pub(crate) fn look(&self, ledger: &Ledger) {
        if self.site.is_due() {
            self.site.refresh(&self.reading(ledger), Trust::Guarded);
        }
    }

    /// A node needs what is not in the book.
    pub(crate) fn hurry(&self) {
        self.site.hurry();
    }

    /// Passes a write on, and reads back what came of it.
    pub(crate) fn write(&self, ledger: &Ledger, request: &Request) -> Answer {
        if self.api == Api::BootService {
            let detail = format!(
                "the boot parameters of this box are those of {}: write BootConfigurations there (ochami boot config)",
                self.site.url()
            );
            let mut answer = Answer::problem(405, "Method Not Allowed", &detail);
            answer.headers.push(("allow".into(), "GET".into()));
            return answer;
        }
        let answer = self.site.pass_on(request, PARAMETERS_PATH);
        if (200..300).contains(&answer.status) {
            let deleted = request.method == "DELETE";
            return self
                .site
                .mark(self.site.read_back(&self.reading(ledger), deleted, answer));
        }
        if answer.status >= 500 {
            // It may have been taken all the same.
            self.site.hurry();
        }
        self.site.mark(answer)
    }

    /// An import would be undone by the next refresh.
    pub(crate) fn import(&self) -> Answer {
        let detail = format!(
            "the boot parameters of this box are those of {}: write them there, and they come here with its next refresh",
            self.site.url()
        );
        Answer::problem(409, "Conflict", &detail)
    }

    /// Lets through what is held back.
    pub(crate) fn accept(&self, ledger: &Ledger) -> Answer {
        self.site.accept(&self.reading(ledger))
    }

    /// An answer made of the book.
    pub(crate) fn mark(&self, answer: Answer) -> Answer {
        self.site.mark(answer)
    }

    /// How it is. `line`: what there is.
    pub(crate) fn health(&self, line: &str) -> Health {
        let mistakes = self.mistakes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.site.health(line, mistakes)
    }

    fn path(&self) -> &'static str {
        match self.api {
            Api::Bss => PARAMETERS_PATH,
            Api::BootService => CONFIGURATIONS_PATH,
        }
    }

    fn reading<'a>(&'a self, ledger: &'a Ledger) -> Reading<'a> {
        Reading { mirrored: self, ledger }
    }
}

/// The book, while it becomes what the site lists.
struct Reading<'a> {
    mirrored: &'a Mirrored,
    ledger: &'a Ledger,
}

impl Mirror for Reading<'_> {
    type Change = Listed;

    fn read(&self, _: usize, body: &str) -> Result<(Loss, Listed), String> {
        let listed = match self.mirrored.api {
            Api::Bss => listed::boot_parameters(body),
            Api::BootService => listed::boot_configurations(body),
        };
        let listed = listed.map_err(|shape| shape.to_string())?;
        let book = self.ledger.book();
        let loss = Loss {
            had: book.targets(),
            lost: mirror::lost(&book, &listed),
            has: listed.targets(),
        };
        Ok((loss, listed))
    }

    fn take(&self, _: usize, listed: Listed) -> Result<(), HostError> {
        let changes = Cell::new(Changes::default());
        let written = self.ledger.write(|book| {
            let draft = mirror::mirror(book, &listed);
            changes.set(draft.changes());
            Ok::<_, Infallible>(draft)
        });
        match written {
            Ok(_) => {
                changes.get().log(ROWS, self.mirrored.site.url());
                let mistakes = self.told(listed);
                *self.mirrored.mistakes.lock().unwrap_or_else(PoisonError::into_inner) = mistakes;
                Ok(())
            }
            Err(NotWritten::Store(error)) => Err(error),
            Err(NotWritten::Refused(never)) => match never {},
        }
    }
}

impl Reading<'_> {
    fn told(&self, listed: Listed) -> Vec<Mistake> {
        let more = (listed.untold > 0).then(|| format!("and {} more mistakes", listed.untold));
        let file = format!("{}{}", self.mirrored.site.url(), self.mirrored.path());
        let mistake = |text| Mistake {
            file: file.clone(),
            line: 0,
            text,
        };
        listed.told.into_iter().chain(more).map(mistake).collect()
    }
}

const PARAMETERS_PATH: &str = "/bootparameters";
const CONFIGURATIONS_PATH: &str = "/bootconfigurations";
/// What BSS has.
const PARAMETERS: &[Collection] = &[Collection {
    path: PARAMETERS_PATH,
    rows: ROWS,
}];
/// What boot-service has.
const CONFIGURATIONS: &[Collection] = &[Collection {
    path: CONFIGURATIONS_PATH,
    rows: ROWS,
}];
const ROWS: &str = "targets of boot parameters";
