//! The env file of a project of modes: what mdc writes to `.env`.

use std::collections::BTreeSet;

use crate::env_file::{double_quoted, quoted};

/// The start of the first line, which identifies an env file that mdc wrote.
const HEADER: &str = "### mdc ";

/// The contents of the env file.
#[derive(Clone, Debug, Default)]
pub struct ProjectEnv {
    /// The command line, program first; None to keep it out of the file.
    pub command: Option<Vec<String>>,
    /// In order; later ones win.
    pub modes: Vec<EnvMode>,
    /// Paths of compose files, in order.
    pub compose_files: Vec<String>,
    /// The folder of the env file, absolute.
    pub dir: String,
    /// Byte for byte as the reference tool writes it.
    pub as_reference: bool,
}

/// The parts of a mode that the env file needs.
#[derive(Clone, Debug)]
pub struct EnvMode {
    pub name: String,
    pub path: String,
    pub files: Vec<EnvFile>,
}

#[derive(Clone, Debug)]
pub struct EnvFile {
    pub path: String,
    /// Usually text. Copied as it is, without a byte order mark, which compose accepts at the start only.
    pub content: Vec<u8>,
}

/// An env file that is ready to be written.
#[derive(Clone, Debug)]
pub struct Written {
    pub bytes: Vec<u8>,
    /// The value of COMPOSE_FILE.
    pub compose_file: String,
    /// The separator of its paths.
    pub separator: char,
    /// The value of COMPOSE_PROFILES.
    pub compose_profiles: String,
    /// The first and last line of each file's content, from 1, and its path.
    origins: Vec<(usize, usize, String)>,
}

impl Written {
    /// The file and line that a line comes from; None if mdc itself wrote the line.
    pub fn origin(&self, line: usize) -> Option<(&str, usize)> {
        let found = self.origins.iter().find(|(first, last, _)| (*first..=*last).contains(&line));
        found.map(|(first, _, path)| (path.as_str(), line - first + 1))
    }
}

/// Did mdc or the reference tool write this env file?
pub fn is_written_by_mdc(content: &[u8]) -> bool {
    content.starts_with(HEADER.as_bytes())
}

/// The name of the variable that marks a mode as enabled.
pub fn mode_variable(mode: &str) -> String {
    let name = mode.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' });
    format!("MDC_MODE_{}", name.collect::<String>())
}

/// The name in the reference tool's spelling, which also replaces digits.
fn reference_variable(mode: &str) -> String {
    let name = mode.chars().map(|it| if it.is_alphabetic() { it } else { '_' });
    format!("MDC_MODE_{}", name.collect::<String>())
}

impl ProjectEnv {
    /// The bytes of the file. An error is a value that cannot be written.
    pub fn write(&self) -> Result<Written, Vec<String>> {
        let mut text = Text::default();
        text.line(&self.header());
        let mut enabled = BTreeSet::new();
        let mut origins = Vec::new();
        for mode in &self.modes {
            let spelled = reference_variable(&mode.name);
            if !self.as_reference {
                for name in [mode_variable(&mode.name), spelled.clone()] {
                    if name.is_ascii() && enabled.insert(name.clone()) {
                        text.line(&format!("{name}=enabled"));
                    }
                }
            }
            for file in &mode.files {
                text.line(&format!("### mdc begin mode {} ({})", mode.name, file.path));
                if self.as_reference {
                    text.line(&format!("{spelled}=enabled"));
                }
                let content = file.content.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&file.content);
                let first = text.lines + 1;
                text.bytes(content);
                text.line("");
                origins.push((first, text.lines, file.path.clone()));
                text.line(&format!("### mdc end mode {} ({})", mode.name, file.path));
            }
        }
        let paths: Vec<&str> = std::iter::once("./.compose-empty.yaml")
            .chain(self.compose_files.iter().map(String::as_str))
            .collect();
        let separator = separator(&paths);
        let compose_file = paths.join(&separator.to_string());
        let profiles: Vec<String> = self.modes.iter().map(|it| format!("MODE_{}", it.name)).collect();
        let compose_profiles = profiles.join(",");
        let mut wrong = Vec::new();
        let mut set =
            |text: &mut Text, name: &str, value: &str, form: fn(&str) -> Option<String>| {
                match form(
            value,
        ) {
            Some(value) => text.line(&format!("{name}={value}")),
            None => wrong.push(format!(
                "{name} cannot hold `{}`: compose and a shell read no form of it the same (rename what has \
                     backticks and quotes)",
                value.escape_debug()
            )),
        }
            };
        set(&mut text, "COMPOSE_FILE", &compose_file, quoted);
        if separator != ':' {
            set(&mut text, "COMPOSE_PATH_SEPARATOR", &separator.to_string(), quoted);
        }
        set(&mut text, "COMPOSE_DIR", &self.dir, quoted);
        set(&mut text, "COMPOSE_PROFILES", &compose_profiles, quoted);
        let dirs: Vec<&str> = self.modes.iter().map(|it| it.path.as_str()).collect();
        set(&mut text, "MDC_MODE_DIRS", &dirs.join(","), in_double_quotes);
        if !self.as_reference {
            let names: Vec<&str> = self.modes.iter().map(|it| it.name.as_str()).collect();
            set(&mut text, "MDC_MODE_NAMES", &names.join(","), in_double_quotes);
        }
        if wrong.is_empty() {
            Ok(Written { bytes: text.bytes, compose_file, separator, compose_profiles, origins })
        } else {
            Err(wrong)
        }
    }

    /// One line, whatever the arguments are.
    fn header(&self) -> String {
        let words = self.command.as_ref().map(|it| it.iter().map(|it| shell_word(it)).collect::<Vec<_>>());
        format!(
            "{HEADER}command line: {}",
            words.map_or_else(|| "not written down".to_owned(), |it| it.join(" "))
        )
    }
}

/// Double quotes for all that they can hold, single ones for the rest.
fn in_double_quotes(value: &str) -> Option<String> {
    double_quoted(value).or_else(|| quoted(value))
}

/// A colon, or a character that no path contains.
fn separator(paths: &[&str]) -> char {
    let free = |it: &char| !paths.iter().any(|path| path.contains(*it));
    [':', ';', '|', '\t'].into_iter().find(free).unwrap_or(':')
}

/// Quotes an argument for a shell if necessary.
fn shell_word(word: &str) -> String {
    let ordinary =
        |it: char| !it.is_whitespace() && !it.is_control() && !"'\"\\$`&;<>()!|*?[]{}#~".contains(it);
    if word.chars().all(ordinary) && !word.is_empty() {
        word.to_owned()
    } else if word.chars().any(char::is_control) {
        format!("$'{}'", word.escape_default())
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Bytes, and how many whole lines they are.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    lines: usize,
}

impl Text {
    fn bytes(&mut self, bytes: &[u8]) {
        self.lines += bytes.iter().filter(|it| **it == b'\n').count();
        self.bytes.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &str) {
        self.bytes(line.as_bytes());
        self.bytes(b"\n");
    }
}
