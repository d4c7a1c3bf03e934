//! Progress on stderr: bars with the time left on a terminal; elsewhere one line a stage, and in long
//! stages one every half minute.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use regraft::Progress;

use crate::console_text::{safe_line, to_stderr};

/// Often enough to see that it is alive.
const TICK: Duration = Duration::from_millis(100);
/// Time between two lines of one stage where there is no terminal: a log stays short, and shows that the
/// run is alive.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Columns of stage names.
const NAME_WIDTH: usize = 12;

/// Where progress goes.
#[derive(Clone, Debug)]
pub(crate) enum Screen {
    /// Bars that are drawn again and again.
    Bars(MultiProgress),
    /// Plain lines, for files and pipes.
    Lines,
    /// Nothing.
    Quiet,
}

impl Screen {
    /// Returns what fits stderr.
    pub(crate) fn new(quiet: bool) -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() && !is_dumb {
            Self::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
        } else {
            Self::Lines
        }
    }

    /// Writes one line above the bars, even if quiet was asked for: the user did something.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Bars(bars) => bars.suspend(|| to_stderr(&format!("{text}\n"))),
            Self::Lines | Self::Quiet => to_stderr(&format!("{text}\n")),
        }
    }
}

/// The stage under way.
#[derive(Debug)]
struct Stage {
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
    pace: Option<Pace>,
}

/// How fast a stage goes on, for plain lines.
#[derive(Clone, Copy, Debug)]
struct Pace {
    total: usize,
    /// Steps done when it began: a run that goes on does not begin with none.
    from: usize,
    began: Instant,
    /// When the stage's last line was.
    said: Instant,
}

impl Pace {
    /// Returns the line that is due at `now`.
    fn line(&mut self, done: usize, now: Instant) -> Option<String> {
        if now.duration_since(self.said) < LINE_EVERY || done <= self.from {
            return None;
        }
        self.said = now;
        let each = now.duration_since(self.began).as_secs_f64() / (done - self.from) as f64;
        let left = each * self.total.saturating_sub(done) as f64;
        let left = HumanDuration(Duration::from_secs(left as u64));
        Some(format!("{done}/{}, {left:#} left", self.total))
    }
}

/// Shows the progress of one run.
#[derive(Debug)]
pub(crate) struct Reporter {
    screen: Screen,
    stop: Arc<AtomicBool>,
    stage: RefCell<Option<Stage>>,
}

impl Reporter {
    /// Returns progress on `screen`, stopped through `stop`.
    pub(crate) fn new(screen: Screen, stop: Arc<AtomicBool>) -> Self {
        Self {
            screen,
            stop,
            stage: RefCell::new(None),
        }
    }

    /// Ends the last stage, `done` if it was finished.
    pub(crate) fn close(&self, done: bool) {
        let Some(stage) = self.stage.take() else {
            return;
        };
        if let Some(bar) = &stage.bar {
            bar.finish_and_clear();
        }
        if !done || matches!(self.screen, Screen::Quiet) {
            return;
        }
        let seconds = stage.started.elapsed().as_secs_f64();
        let name = &stage.name;
        self.screen.say(&format!(
            "\u{1b}[32m✓\u{1b}[0m {name:<NAME_WIDTH$} \u{1b}[2m{seconds:>7.1} s\u{1b}[0m"
        ));
    }
}

impl Reporter {
    /// Says how far a stage is, now and then.
    fn step_line(&self, stage: &mut Stage, done: usize, total: usize, what: &str) {
        let now = Instant::now();
        // Parts of a stage count anew; its lines do not come faster for that.
        let said = stage.pace.map_or(stage.started, |p| p.said);
        let fresh = Pace {
            total,
            from: done,
            began: now,
            said,
        };
        let pace = match &mut stage.pace {
            Some(pace) if pace.total == total && pace.from <= done => pace,
            other => other.insert(fresh),
        };
        if let Some(line) = pace.line(done, now) {
            let what = safe_line(what);
            let dash = if what.is_empty() { "" } else { "  " };
            self.screen
                .say(&format!("  {:<NAME_WIDTH$} {line}{dash}{what}", stage.name));
        }
    }
}

impl Progress for Reporter {
    fn stage(&self, name: &str) {
        self.close(true);
        let name = safe_line(name);
        let bar = match &self.screen {
            Screen::Bars(bars) => {
                let bar = bars.add(ProgressBar::new_spinner());
                bar.set_style(spinner_style());
                bar.set_prefix(name.clone());
                bar.enable_steady_tick(TICK);
                Some(bar)
            }
            Screen::Lines | Screen::Quiet => None,
        };
        self.stage.replace(Some(Stage {
            name,
            started: Instant::now(),
            bar,
            pace: None,
        }));
    }

    fn step(&self, done: usize, total: usize, what: &str) {
        let mut stage = self.stage.borrow_mut();
        let Some(stage) = stage.as_mut() else { return };
        let Some(bar) = &stage.bar else {
            if matches!(self.screen, Screen::Lines) {
                self.step_line(stage, done, total, what);
            }
            return;
        };
        if bar.length() != Some(total as u64) {
            bar.set_length(total as u64);
            bar.set_style(bar_style());
        }
        bar.set_position(done as u64);
        bar.set_message(safe_line(what));
    }

    fn note(&self, text: &str) {
        if !matches!(self.screen, Screen::Quiet) {
            self.screen.say(&format!("  {}", safe_line(text)));
        }
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

fn spinner_style() -> ProgressStyle {
    style("{spinner:.cyan} {prefix:12} {elapsed:>7.dim}")
}

fn bar_style() -> ProgressStyle {
    style("{spinner:.cyan} {prefix:12} {elapsed:>7.dim} {bar:24.cyan/dim} {pos:>3}/{len} {eta:>4} left  {wide_msg:.dim}")
        .progress_chars("━╸─")
}

/// The templates are ours and a test reads them; the plain bar is for a slip all the same.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use indicatif::ProgressStyle;

    use super::Pace;

    #[test]
    fn lines_say_how_long_it_takes_from_where_it_went_on() {
        let began = Instant::now();
        let mut pace = Pace {
            total: 100,
            from: 40,
            began,
            said: began,
        };
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(pace.line(45, after(20)), None);
        // Ten steps took 40 s, fifty are left.
        assert_eq!(pace.line(50, after(40)).unwrap(), "50/100, 3m left");
        assert_eq!(pace.line(51, after(45)), None);
        assert_eq!(pace.line(100, after(240)).unwrap(), "100/100, 0s left");
    }

    #[test]
    fn the_templates_are_read() {
        // `style` hides a slip, so the text is taken from the source itself.
        let source = include_str!("progress.rs");
        let templates: Vec<&str> = source
            .lines()
            .filter_map(|l| l.trim().strip_prefix("style(\""))
            .collect();
        assert_eq!(templates.len(), 2);
        for line in templates {
            let template = line.split("\")").next().unwrap();
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
