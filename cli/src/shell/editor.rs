//! Reading lines at a terminal.

use std::{borrow::Cow, path::PathBuf, sync::Arc};

use anyhow::Context;
use reedline::{
    ColumnarMenu, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder as _, Prompt, PromptEditMode,
    PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    default_emacs_keybindings,
};

use super::{complete::Completer, hint::Hints, knowledge::Knowledge, paint::Paint};
use crate::output::Output;

/// Lines that are remembered.
const REMEMBERED: usize = 2000;
const MENU: &str = "completions";

/// A line editor.
pub(super) struct Editor(Reedline);

/// What was typed.
pub(super) enum Typed {
    Line(String),
    /// Ctrl-C: the line is dropped.
    Cancelled,
    /// Ctrl-D, or the terminal is gone.
    End,
}

impl Editor {
    pub(super) fn new(knowledge: &Arc<Knowledge>, output: &Output) -> Self {
        let mut keys = default_emacs_keybindings();
        let tab = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(tab));
        keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        let menu = ColumnarMenu::default().with_name(MENU);
        let mut editor = Reedline::create()
            .with_ansi_colors(output.is_coloured())
            .with_completer(Box::new(Completer::new(knowledge.clone())))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_hinter(Box::new(Hints::new()))
            .with_edit_mode(Box::new(Emacs::new(keys)));
        if output.is_coloured() {
            editor = editor.with_highlighter(Box::new(Paint::new()));
        } else {
            editor = editor.with_highlighter(Box::new(reedline::SimpleMatchHighlighter::new(String::new())));
        }
        // What can't be remembered is no reason not to work.
        match history() {
            Ok(history) => editor = editor.with_history(Box::new(history)),
            Err(error) => output.note(&format!("lines are not remembered: failed to {error:#}")),
        }
        Self(editor)
    }

    /// Waits for a line for this cluster, on a thread that may.
    pub(super) async fn read(mut self, cluster: String) -> anyhow::Result<(Typed, Self)> {
        let read = tokio::task::spawn_blocking(move || {
            let read = self.0.read_line(&Named(cluster));
            // Written at once: a shell that is killed has not forgotten.
            let _ = self.0.sync_history();
            (read, self)
        });
        let (read, editor) = read.await.context("read a line")?;
        let typed = match read.context("read a line")? {
            Signal::Success(line) => Typed::Line(line),
            Signal::CtrlD => Typed::End,
            _ => Typed::Cancelled,
        };
        Ok((typed, editor))
    }
}

/// `$XDG_STATE_HOME/freshline/history`.
fn history() -> anyhow::Result<FileBackedHistory> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    let file = state.context("find a place for the history: neither XDG_STATE_HOME nor HOME is set")?;
    let file = file.join("freshline").join("history");
    FileBackedHistory::with_file(REMEMBERED, file.clone()).with_context(|| format!("open {}", file.display()))
}

/// `freshline dev> `: which nodes the lines go to.
struct Named(String);

impl Prompt for Named {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        format!("freshline {}", self.0).into()
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        "> ".into()
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "  ".into()
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "no ",
        };
        format!(" ({failing}line with: {}) ", search.term).into()
    }
}
