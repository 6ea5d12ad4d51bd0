use serde::{Deserialize, Serialize};

/// How far an attempt has come.
///
/// `ctx.progress(42.0)` says a percentage; [`Progress::of`] says how many of how many.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// From 0 to 100.
    pub percent: f64,
    /// How much is done, in the job's own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<f64>,
    /// How much there is to do, in the same unit; unknown for a source of unknown length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// What is being done, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Progress {
    /// A percentage; what is outside 0…100, or not a number, is brought inside.
    pub fn percent(percent: f64) -> Self {
        Self { percent: clamp(percent), ..Self::default() }
    }

    /// `done` of `total`; the percentage follows.
    pub fn of(done: f64, total: f64) -> Self {
        let percent = if total > 0.0 { clamp(done / total * 100.0) } else { 0.0 };
        Self { percent, done: finite(done), total: finite(total), message: None }
    }

    /// `done` of nobody knows how many.
    pub fn count(done: f64) -> Self {
        Self { done: finite(done), ..Self::default() }
    }

    /// With every number within its bounds, whoever wrote it.
    #[must_use]
    pub fn sound(self) -> Self {
        Self {
            percent: clamp(self.percent),
            done: self.done.and_then(finite),
            total: self.total.and_then(finite),
            ..self
        }
    }

    /// The same with a message for people.
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

fn clamp(percent: f64) -> f64 {
    if percent.is_nan() { 0.0 } else { percent.clamp(0.0, 100.0) }
}

/// JSON and GraphQL have no infinity: what is not finite is left unsaid.
fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

impl From<f64> for Progress {
    fn from(percent: f64) -> Self {
        Self::percent(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::Progress;

    #[test]
    fn percent_stays_between_0_and_100() {
        for (given, kept) in [(-1.0, 0.0), (250.0, 100.0), (f64::NAN, 0.0), (33.5, 33.5)] {
            assert_eq!(Progress::percent(given).percent, kept);
        }
        assert_eq!(Progress::of(3.0, 4.0).percent, 75.0);
        assert_eq!(Progress::of(3.0, 0.0).percent, 0.0);
        assert_eq!(Progress::of(f64::INFINITY, 4.0).done, None);
    }
}
