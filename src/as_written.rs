//! Values that show as the configuration has them, because what they are may come from the environment.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A value that was made from a text of the configuration. When values of the environment were filled in in the text,
/// the value is a secret: its [`Display`](fmt::Display) and [`Debug`](fmt::Debug) are the text as it was written, such as
/// `${DATA}/shop.db`.
#[derive(Clone, PartialEq, Eq)]
pub struct AsWritten<T> {
    value: T,
    /// `None`: the value may show.
    text: Option<Arc<str>>,
}

impl<T> AsWritten<T> {
    /// The value of `text`, in which values of the environment were filled in.
    pub fn filled(value: T, text: impl Into<Arc<str>>) -> Self {
        Self { value, text: Some(text.into()) }
    }

    /// The value, for those who use it. It belongs in no message.
    pub fn expose(&self) -> &T {
        &self.value
    }

    /// The same, when nothing else is needed.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Whether the value shows as the text that it was made from.
    pub fn is_filled(&self) -> bool {
        self.text.is_some()
    }

    /// What is made of the value, with the same text.
    pub fn try_map<U, E>(self, make: impl FnOnce(T) -> Result<U, E>) -> Result<AsWritten<U>, E> {
        Ok(AsWritten { value: make(self.value)?, text: self.text })
    }
}

impl AsWritten<PathBuf> {
    /// A file in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let text = self.text.as_ref().map(|text| format!("{}/{name}", text.trim_end_matches('/')).into());
        Self { value: self.value.join(name), text }
    }

    /// The words of others about it, in which the path may stand.
    pub fn hide_in(&self, words: &str) -> String {
        let Some(text) = &self.text else { return words.to_owned() };
        let absolute = std::path::absolute(&self.value).unwrap_or_else(|_| self.value.clone());
        // The longer one first: the other can be a part of it.
        [absolute, self.value.clone()].iter().fold(words.to_owned(), |words, path| match &*path.to_string_lossy() {
            "" => words,
            path => replace_whole(&words, path, text),
        })
    }
}

/// The words with `by` wherever `what` stands in them for itself, and not as a part of a longer word or name.
pub(crate) fn replace_whole(words: &str, what: &str, by: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut replaced = String::with_capacity(words.len());
    let mut copied = 0;
    for (at, _) in words.match_indices(what) {
        let end = at + what.len();
        let goes_on = |left: &str, right: &str| left.ends_with(is_word) && right.starts_with(is_word);
        if !goes_on(&words[..at], what) && !goes_on(what, &words[end..]) {
            replaced += &words[copied..at];
            replaced += by;
            copied = end;
        }
    }
    replaced + &words[copied..]
}

impl<T> From<T> for AsWritten<T> {
    fn from(value: T) -> Self {
        Self { value, text: None }
    }
}

impl<T: Clone> From<&Self> for AsWritten<T> {
    fn from(value: &Self) -> Self {
        value.clone()
    }
}

impl From<&Path> for AsWritten<PathBuf> {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl From<&PathBuf> for AsWritten<PathBuf> {
    fn from(path: &PathBuf) -> Self {
        path.clone().into()
    }
}

impl From<&str> for AsWritten<PathBuf> {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

impl fmt::Display for AsWritten<PathBuf> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => self.value.display().fmt(f),
        }
    }
}

impl fmt::Display for AsWritten<String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.as_deref().unwrap_or(&self.value))
    }
}

impl fmt::Display for AsWritten<SocketAddr> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => self.value.fmt(f),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for AsWritten<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => text.fmt(f),
            None => self.value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_in_shows_as_it_was_written() {
        let path = AsWritten::filled(PathBuf::from("/hunter2"), "${DATA}");
        assert_eq!((path.to_string().as_str(), format!("{path:?}").as_str()), ("${DATA}", "\"${DATA}\""));
        let file = path.join("shop.db");
        assert_eq!(
            (file.to_string().as_str(), file.expose().as_path()),
            ("${DATA}/shop.db", Path::new("/hunter2/shop.db"))
        );
        assert_eq!(file.hide_in("unable to open /hunter2/shop.db"), "unable to open ${DATA}/shop.db");
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let listen = AsWritten::filled(address, "${LISTEN}");
        assert_eq!((listen.to_string().as_str(), format!("{listen:?}").as_str()), ("${LISTEN}", "\"${LISTEN}\""));
    }

    #[test]
    fn anything_else_shows_as_it_is() {
        let path: AsWritten<PathBuf> = "a/b".into();
        assert_eq!((path.join("c").to_string().as_str(), format!("{path:?}").as_str()), ("a/b/c", "\"a/b\""));
        assert_eq!(path.hide_in("cannot open a/b"), "cannot open a/b");
    }

    #[test]
    fn words_in_which_the_path_does_not_stand_stay_as_they_are() {
        let hide = |value: &str, words: &str| AsWritten::filled(PathBuf::from(value), "${A}").hide_in(words);
        assert_eq!(hide("a", "file is not database"), "file is not database");
        assert_eq!(hide("a", "a, data, (a) and _a é a1 a"), "${A}, data, (${A}) and _a é a1 ${A}");
        // What lies in it, or beside it with a longer name, would show it, too.
        assert_eq!(
            hide("/x/a", "open \"/x/a\": /x/a-wal, /x/a/b, /mnt/x/a; /x/ab"),
            "open \"${A}\": ${A}-wal, ${A}/b, /mnt${A}; /x/ab"
        );
        assert_eq!(hide("a", "a a"), "${A} ${A}");
    }

    #[test]
    fn a_relative_path_is_hidden_where_others_made_it_absolute() {
        let path = AsWritten::filled(PathBuf::from("hunter2/shop.db"), "${DATA}/shop.db");
        let absolute = std::path::absolute("hunter2/shop.db").unwrap();
        assert_eq!(path.hide_in(&format!("cannot open {}!", absolute.display())), "cannot open ${DATA}/shop.db!");
    }
}
