//! Programs as tasks: real ones, under real guards, in a manager or in a server.

use std::{fs, path::Path, sync::Arc};

use futures::{StreamExt, TryStreamExt};
use meanwhile::{
    clock::{Clock, SystemClock},
    journal::{Followed, JournalOptions},
    model::{CancelStep, EventBody, LogLevel, Task, TaskId, TaskStatus},
    store::{
        Store,
        sqlite::{SqliteOptions, SqliteStore},
    },
    task::{
        KindOptions, KindType, StartTask, TaskManager, TaskOptions,
        program::{CommandTemplate, GuardExecutable, ProgramJob, ProgramOptions},
    },
};
use serde_json::{Value, json};

use super::server::{Server, data, subscribe};

/// A manager with programs as its kinds, and the folder that they run in.
pub(crate) struct Programs {
    pub(crate) manager: TaskManager,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) folder: tempfile::TempDir,
}

impl Programs {
    pub(crate) async fn new() -> Self {
        Self::with(TaskOptions::default()).await
    }

    /// The same, with these options.
    pub(crate) async fn with(options: TaskOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let store = SqliteStore::open(folder.path().join("data"), &SqliteOptions::default(), clock.clone()).unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let manager = TaskManager::open(store.clone(), clock, options, JournalOptions::default(), 1).await.unwrap();
        Self { manager, store, folder }
    }

    /// Registers a program as the kind of this name.
    pub(crate) fn register(&self, name: &str, command: &[&str], change: impl FnOnce(&mut ProgramOptions)) {
        let mut options = ProgramOptions::new(CommandTemplate::parse(command).unwrap());
        options.folder = self.folder.path().into();
        change(&mut options);
        self.register_under(GuardExecutable::at(env!("CARGO_BIN_EXE_meanwhile")), name, options);
    }

    /// The same, under this guard.
    pub(crate) fn register_under(&self, guard: GuardExecutable, name: &str, options: ProgramOptions) {
        let job = Arc::new(ProgramJob::new(options, guard));
        self.manager.register_job(name, KindType::Program, KindOptions::default(), job).unwrap();
    }

    /// Runs a shell script as a task without input.
    pub(crate) async fn sh(&self, script: &str) -> Ended {
        self.sh_with(script, |_| {}, &Value::Null).await
    }

    pub(crate) async fn sh_with(&self, script: &str, change: impl FnOnce(&mut ProgramOptions), input: &Value) -> Ended {
        self.register("sh", &["sh", "-c", script], change);
        self.run("sh", input).await
    }

    pub(crate) async fn run(&self, kind: &str, input: &Value) -> Ended {
        let task = self.manager.start(StartTask::new(kind).input(input).unwrap()).await.unwrap();
        self.ended(task.id).await
    }

    /// Starts a script, and waits until it says that it is ready.
    pub(crate) async fn ready(&self, script: &str, change: impl FnOnce(&mut ProgramOptions)) -> TaskId {
        self.register("sh", &["sh", "-c", script], change);
        let id = self.manager.start(StartTask::new("sh")).await.unwrap().id;
        self.says(id, "ready").await;
        id
    }

    pub(crate) async fn says(&self, id: TaskId, words: &str) {
        let mut follow = std::pin::pin!(self.manager.journal().follow(id, 0));
        while let Some(followed) = follow.next().await {
            let Followed::Event(event) = followed.unwrap() else { panic!("a gap") };
            if matches!(&event.body, EventBody::Log { message, .. } if message.contains(words)) {
                return;
            }
        }
        panic!("the task ended without saying {words:?}");
    }

    /// Waits for the end; nothing of the program is left then.
    pub(crate) async fn ended(&self, id: TaskId) -> Ended {
        let ended = self.finished(id).await;
        assert_eq!(processes_of(&id.to_string()), Vec::<String>::new(), "processes were left behind");
        ended
    }

    pub(crate) async fn finished(&self, id: TaskId) -> Ended {
        let followed: Vec<_> = self.manager.journal().follow(id, 0).try_collect().await.unwrap();
        let body = |followed| match followed {
            Followed::Event(event) => event.body.clone(),
            Followed::Gap { .. } => panic!("a gap"),
        };
        let events = followed.into_iter().map(body).collect();
        Ended { task: self.manager.get(id).await.unwrap().unwrap(), events }
    }
}

/// A task that has ended, and what happened to it.
pub(crate) struct Ended {
    pub(crate) task: Task,
    pub(crate) events: Vec<EventBody>,
}

impl Ended {
    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.task.status, TaskStatus::Completed, "{:?}", self.task.error);
        self.task.result.as_ref().unwrap().decode().unwrap()
    }

    /// The code and the message of its error.
    pub(crate) fn error(&self) -> (&str, &str) {
        let error = self.task.error.as_ref().unwrap();
        (&error.code, &error.message)
    }

    pub(crate) fn logs(&self) -> Vec<(LogLevel, &str)> {
        let log = |body| match body {
            &EventBody::Log { level, ref message } => Some((level, message.as_str())),
            _ => None,
        };
        self.events.iter().filter_map(log).collect()
    }

    /// The steps of its cancellation.
    pub(crate) fn ladder(&self) -> Vec<CancelStep> {
        let step = |body: &EventBody| match body {
            EventBody::Cancellation(cancellation) => Some(cancellation.step),
            _ => None,
        };
        self.events.iter().filter_map(step).collect()
    }

    /// All that it logged, in one text.
    pub(crate) fn text(&self) -> String {
        self.logs().into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("\n")
    }
}

/// The processes of this task: its guard by its name, its program and all descendants by their environment.
pub(crate) fn processes_of(task: &str) -> Vec<String> {
    let holds = |pid: &str, file: &str| {
        let content = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&content).contains(task)
    };
    let pids = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // One that has ended, and is only not waited for yet, has neither.
    pids.filter(|pid| pid.parse::<u32>().is_ok() && (holds(pid, "environ") || holds(pid, "cmdline"))).collect()
}

/// Waits until no process of the task is there any more.
pub(crate) async fn gone(task: &str) {
    while !processes_of(task).is_empty() {
        tokio::task::yield_now().await;
    }
}

pub(crate) const START: &str = "mutation($kind: String!) { startTask(input: { kind: $kind }) { task { id } } }";
pub(crate) const EVENTS: &str = "subscription($id: ID!) { taskEvents(id: $id) { ... on TaskLogged { message } ... on TaskStatusChanged { status } } }";

pub(crate) async fn start_server(data: &Path, config: &Path) -> Server {
    let (data, config) = (data.to_owned(), config.to_owned());
    tokio::task::spawn_blocking(move || Server::start(&data, Some(&config))).await.unwrap()
}

/// Starts a task without input; its id.
pub(crate) async fn start_task(server: &Server, kind: &str) -> String {
    let started = data(server.url(), START, json!({ "kind": kind })).await;
    started["startTask"]["task"]["id"].as_str().unwrap().to_owned()
}

/// Waits until a task of the server says this.
pub(crate) async fn says(server: &Server, id: &str, words: &str) {
    let mut events = std::pin::pin!(subscribe(server.url(), EVENTS, json!({ "id": id })).await.unwrap());
    while events.next().await.unwrap().unwrap()["data"]["taskEvents"]["message"] != words {}
}

/// Waits for the end of a task of the server; all its events.
pub(crate) async fn events(server: &Server, id: &str) -> Vec<Value> {
    let events = subscribe(server.url(), EVENTS, json!({ "id": id })).await.unwrap();
    events.map(|event| event.unwrap()["data"]["taskEvents"].take()).collect().await
}
