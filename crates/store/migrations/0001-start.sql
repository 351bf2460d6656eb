-- Kept once landed: a change of the schema is a new file. BLOB is the one word that PostgreSQL spells otherwise.

-- One row: the newest entry, and the lock that whoever changes anything takes first.
CREATE TABLE ledger_head (
    one BIGINT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL
);
INSERT INTO ledger_head (one, seq, hash) VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

CREATE TABLE ledger (
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    agent TEXT,
    team TEXT,
    session TEXT,
    body TEXT NOT NULL,
    sealed BLOB,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL,
    signature BLOB NOT NULL
);
CREATE INDEX ledger_by_agent ON ledger (agent, seq);
CREATE INDEX ledger_by_session ON ledger (session, seq);

-- What opens an entry's sealed part, together with the key file. Erasing deletes the row.
CREATE TABLE record_keys (
    seq BIGINT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL
);

-- What a question shows is the sealed part of the entry that asked it.
CREATE TABLE approvals (
    id TEXT NOT NULL PRIMARY KEY,
    asked BIGINT NOT NULL,
    binding TEXT NOT NULL,
    agent TEXT NOT NULL,
    state TEXT NOT NULL,
    life TEXT NOT NULL,
    quorum TEXT NOT NULL,
    effects TEXT NOT NULL,
    ceiling TEXT NOT NULL,
    answers TEXT NOT NULL,
    until_ms BIGINT NOT NULL
);
CREATE INDEX approvals_by_agent ON approvals (agent, state);
CREATE INDEX approvals_by_state ON approvals (state, until_ms);

CREATE TABLE grants (
    id TEXT NOT NULL PRIMARY KEY,
    approval TEXT NOT NULL,
    agent TEXT NOT NULL,
    session TEXT NOT NULL,
    binding TEXT NOT NULL,
    ceiling TEXT NOT NULL,
    uses_left BIGINT,
    until_ms BIGINT NOT NULL
);
CREATE INDEX grants_by_session ON grants (session, binding);

CREATE TABLE commits (
    id TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    outcome BIGINT
);
CREATE INDEX commits_by_outcome ON commits (outcome);

CREATE TABLE reservations (
    commit_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    day BIGINT NOT NULL,
    amount BIGINT NOT NULL,
    PRIMARY KEY (commit_id, subject, day)
);

CREATE TABLE budgets (
    subject TEXT NOT NULL,
    day BIGINT NOT NULL,
    used BIGINT NOT NULL,
    PRIMARY KEY (subject, day)
);

CREATE TABLE definitions (
    tool TEXT NOT NULL,
    digest TEXT NOT NULL,
    definition TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (tool, digest)
);

CREATE TABLE pins (
    agent TEXT NOT NULL,
    tool TEXT NOT NULL,
    digest TEXT NOT NULL,
    approved_by TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (agent, tool)
);

CREATE TABLE kept_labels (
    keeper TEXT NOT NULL PRIMARY KEY,
    labels TEXT NOT NULL
);

CREATE TABLE people (
    name TEXT NOT NULL PRIMARY KEY,
    uid BIGINT UNIQUE,
    role TEXT NOT NULL
);

CREATE TABLE group_members (
    group_name TEXT NOT NULL,
    person TEXT NOT NULL,
    PRIMARY KEY (group_name, person)
);

CREATE TABLE team_members (
    team TEXT NOT NULL,
    person TEXT NOT NULL,
    PRIMARY KEY (team, person)
);
