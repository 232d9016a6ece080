/** Secrets, sealed. When one was last used stands apart: it changes often, and is no part of what the revision is of. */
export const sql = `
create table secrets (
  name text primary key not null,
  revision bigint not null,
  last_used_at bigint,
  body text not null
);
`
