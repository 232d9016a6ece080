/**
 * One table per noun: the whole record as JSON in `body`, and beside it the columns that are searched by.
 * Portable SQL: text ids, epoch milliseconds as `bigint`.
 */
export const sql = `
create table approvals (
  id text primary key not null,
  -- The binding while this is the question that others with the same binding attach to; else null.
  holds text unique,
  state text not null,
  policy text not null,
  -- Sessions of the chain, as a JSON array.
  sessions text not null,
  opened_at bigint not null,
  -- When its expiry has to be told; null where there is none to tell.
  due_at bigint,
  body text not null
);
create index approvals_by_state on approvals (state, opened_at);
create index approvals_by_due on approvals (due_at);
create index approvals_by_age on approvals (opened_at, id);

create table sessions (
  id text primary key not null,
  agent text not null,
  parent text references sessions (id),
  token_digest text unique,
  started_at bigint not null,
  -- Its deadline, or its end if that was earlier.
  over_at bigint not null,
  body text not null
);
create index sessions_by_agent on sessions (agent);
create index sessions_by_parent on sessions (parent);
create index sessions_by_age on sessions (started_at, id);
create index sessions_by_end on sessions (over_at);

create table keys (
  id text primary key not null,
  digest text unique not null,
  holder text not null,
  created_at bigint not null,
  body text not null
);
create index keys_by_holder on keys (holder);

create table stops (
  target text primary key not null,
  stopped_at bigint not null,
  body text not null
);

create table pins (
  resource text not null,
  kind text not null,
  -- As a JSON string: an upstream chose it, and not every text is one that a database keeps.
  name text not null,
  body text not null,
  primary key (resource, kind, name)
);

create table versions (
  digest text primary key not null,
  loaded_at bigint not null,
  body text not null
);

create table counters (
  -- As a JSON string, for the same reason.
  name text primary key not null,
  value double precision not null
);
`
