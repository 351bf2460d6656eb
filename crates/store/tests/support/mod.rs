//! What the tests share: a store in a temporary place, on either engine, and short names for what they put into it.

mod postgres;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::{
    AgentName, ApprovalId, CommitId, Digest, Effect, Effects, GrantId, Labels, Origin, PersonName, Quorum,
};
use domain::{Role, SessionId};
use store::{
    About, Act, Answer, ByRight, Commit, Entry, Filter, NewGrant, Person, Place, Private, Question,
    Randomness, Shown, Store, Uses,
};
use tempfile::TempDir;

pub(crate) use postgres::Cluster;

/// A store in a place of its own.
pub(crate) struct Lab {
    pub(crate) store: Store,
    pub(crate) place: Place,
    pub(crate) keys: PathBuf,
    /// How the raw database is reached, to do what no program of ours does.
    pub(crate) raw: sqlx::AnyPool,
    pub(crate) folder: TempDir,
}

/// Bytes that look random and are the same each time: SplitMix64.
pub(crate) fn random(seed: u64) -> Arc<dyn Randomness> {
    let state = AtomicU64::new(seed);
    Arc::new(move |buffer: &mut [u8]| {
        for byte in buffer {
            let mut z = state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z >> 32) as u8;
        }
        Ok(())
    })
}

/// An empty database.
pub(crate) struct Empty {
    pub(crate) folder: TempDir,
    pub(crate) place: Place,
    pub(crate) keys: PathBuf,
    pub(crate) raw: sqlx::AnyPool,
}

impl Empty {
    pub(crate) async fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        fs::DirBuilder::new().mode(0o700).create(folder.path().join("db")).unwrap();
        let file = folder.path().join("db/lazaret.db");
        let url = format!("sqlite://{}?mode=rwc", file.display());
        Self::at(folder, Place::File(file), &url).await
    }

    pub(crate) async fn postgres(cluster: &Cluster, database: &str) -> Self {
        let url = cluster.create(database);
        Self::at(TempDir::new().unwrap(), Place::Server(url.clone().into()), &url).await
    }

    async fn at(folder: TempDir, place: Place, url: &str) -> Self {
        sqlx::any::install_default_drivers();
        let keys = folder.path().join("keys");
        let raw = sqlx::AnyPool::connect(url).await.unwrap();
        if let Place::File(file) = &place {
            fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        }
        Self { folder, place, keys, raw }
    }

    pub(crate) async fn open(self) -> Lab {
        let Self { folder, place, keys, raw } = self;
        let store = Store::open(&place, &keys, random(1)).await.unwrap();
        Lab { store, place, keys, raw, folder }
    }
}

impl Lab {
    /// The same database, as another daemon has it.
    pub(crate) async fn another(&self) -> Store {
        Store::open(&self.place, &self.keys, random(2)).await.unwrap()
    }

    /// Changes the database behind the store's back.
    pub(crate) async fn tamper(&self, sql: &str) -> u64 {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.raw).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
    }

    /// Ada is owner; bob and cleo may answer; vic only looks.
    pub(crate) async fn with_people(self) -> Self {
        self.store.install_owner(&person("ada"), 1000, 1).await.unwrap();
        for (name, role) in [("bob", Role::Approver), ("cleo", Role::Approver), ("vic", Role::Viewer)] {
            let somebody = Person { name: person(name), uid: None, role };
            self.store.put_person(&somebody, &person("ada"), 1).await.unwrap();
        }
        self
    }

    /// How many entries of a kind the ledger has.
    pub(crate) async fn count(&self, kind: &str) -> usize {
        self.entries(kind).await.len()
    }

    pub(crate) async fn entries(&self, kind: &str) -> Vec<Entry> {
        let filter = Filter { kind: Some(kind.to_owned()), ..Filter::default() };
        self.store.tail(10_000, &filter).await.unwrap()
    }
}

pub(crate) fn person(name: &str) -> PersonName {
    name.parse().unwrap()
}

pub(crate) fn agent() -> AgentName {
    "mail-clerk".parse().unwrap()
}

pub(crate) fn session(n: u128) -> SessionId {
    SessionId::from_parts(1, n)
}

pub(crate) fn about(n: u128) -> About {
    About { agent: Some(agent()), team: Some("sales".parse().unwrap()), session: Some(session(n)) }
}

pub(crate) fn digest(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

pub(crate) fn approval_id(n: u128) -> ApprovalId {
    ApprovalId::from_parts(2, n)
}

pub(crate) fn commit_id(n: u128) -> CommitId {
    CommitId::from_parts(3, n)
}

pub(crate) fn grant_id(n: u128) -> GrantId {
    GrantId::from_parts(4, n)
}

pub(crate) fn act() -> Act {
    Act::Tool("mail__send_mail".parse().unwrap())
}

pub(crate) fn undoable() -> Effects {
    Effects::of(&[Effect::Read, Effect::Write]).unwrap()
}

/// One yes of ada, bob or cleo is enough; open until 1,000.
pub(crate) fn question(binding: u8) -> Question {
    let people = ["ada", "bob", "cleo", "vic"].map(person).into();
    Question {
        agent: agent(),
        about: about(1),
        act: act(),
        binding: digest(binding),
        shown: Shown {
            arguments: Private::new(r#"{"to":"eve@example.org"}"#.to_owned()),
            content: Private::new("Dear Eve".to_owned()),
            origins: vec![("/to".to_owned(), Origin::Stranger("mail__read".to_owned()))],
            consequences: vec!["a mail can't be called back".to_owned()],
        },
        effects: Effects::UNKNOWN,
        ceiling: Labels::default(),
        reasons: vec!["agent.toml:4: ask".to_owned()],
        quorum: Quorum { people, need: 1, excluded: BTreeSet::new(), until: 1_000 },
    }
}

pub(crate) fn yes(name: &str) -> Answer {
    Answer { person: person(name), yes: true, for_session: false, why: None }
}

pub(crate) fn no(name: &str) -> Answer {
    Answer { yes: false, why: Some(Private::new("not to her".to_owned())), ..yes(name) }
}

pub(crate) fn commit(n: u128, binding: u8, by_right: ByRight) -> Commit {
    Commit {
        id: commit_id(n),
        about: about(1),
        act: act(),
        binding: digest(binding),
        by_right,
        reasons: vec!["agent.toml:3: allow".to_owned()],
        labels: Labels::default(),
        spend: Vec::new(),
        idempotent: false,
        arguments: Private::new(r#"{"to":"eve@example.org"}"#.to_owned()),
        also: Vec::new(),
    }
}

/// A grant of so many uses, until 900.
pub(crate) fn grant(n: u128, binding: u8, uses: Uses) -> NewGrant {
    NewGrant { id: grant_id(n), session: session(1), binding: digest(binding), uses, until: 900 }
}

/// An SQLite database's tables and indices, by name.
pub(crate) async fn schema(raw: &sqlx::AnyPool) -> Vec<String> {
    let master = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name";
    let rows = sqlx::query(master).fetch_all(raw).await.unwrap();
    rows.iter().map(|row| sqlx::Row::get(row, "sql")).collect()
}

/// An SQLite database as SQL.
pub(crate) async fn dump(raw: &sqlx::AnyPool) -> String {
    use sqlx::{Column, Row, TypeInfo, ValueRef};
    let master = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid";
    let mut text = String::new();
    for made in sqlx::query(master).fetch_all(raw).await.unwrap() {
        text += &format!("{};\n", made.get::<String, _>("sql"));
        if made.get::<String, _>("type") != "table" {
            continue;
        }
        let table: String = made.get("name");
        let all = sqlx::AssertSqlSafe(format!("SELECT * FROM {table}"));
        for row in sqlx::query(all).fetch_all(raw).await.unwrap() {
            let values: Vec<String> = row
                .columns()
                .iter()
                .map(|column| {
                    let value = row.try_get_raw(column.ordinal()).unwrap();
                    match value.type_info().name() {
                        _ if value.is_null() => "NULL".to_owned(),
                        "BIGINT" => row.get::<i64, _>(column.ordinal()).to_string(),
                        "TEXT" => format!("'{}'", row.get::<String, _>(column.ordinal()).replace('\'', "''")),
                        "BLOB" => {
                            let bytes: Vec<u8> = row.get(column.ordinal());
                            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                            format!("X'{digits}'")
                        }
                        other => panic!("a column of type {other}"),
                    }
                })
                .collect();
            text += &format!("INSERT INTO {table} VALUES ({});\n", values.join(", "));
        }
    }
    text
}
