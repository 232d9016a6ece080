import { createHash } from 'node:crypto'
import type { Database, Names, Table } from './description.ts'
import { undoByDefault } from './description.ts'
import { block, literal, quoted } from './names.ts'

// What agents change in tables with `undo` is kept as it was, by triggers on these tables. A row is kept as the text that
// the server itself writes and reads of it: JSON would lose some of it (the null of JSON, bounds of arrays, the text of
// `json`, types of extensions that have their own way into JSON).

/** Columns of the table of changes, in order. */
export const changeShape =
  'xid bigint, at timestamp with time zone, place integer, session text, relation text, operation text, ' +
  'columns text[], was text, became text, undone timestamp with time zone'

/** How values are written and read: whatever a session has set, the same text is the same value. */
export const exactSettings: readonly (readonly [name: string, value: string])[] = [
  ['TimeZone', 'UTC'],
  ['DateStyle', 'ISO, YMD'],
  ['IntervalStyle', 'postgres'],
  ['extra_float_digits', '1'],
  ['bytea_output', 'hex'],
  ['lc_monetary', 'C'],
]

/** A table of which changes are kept, under the name that it has in the database. */
export interface Kept {
  readonly base: Table['base']
  /** Of the statement that makes its trigger. Stands in the comment on it, beside the digest of what the server made of it. */
  readonly digest: string
  readonly sql: string
}

export const baseName = ({ schema, table }: Table['base']): string => `${schema}.${table}`

/** Each once, whatever names it has in the description. */
export function keptTables({ tables }: Database, names: Names, agents: readonly string[]): readonly Kept[] {
  const bases = new Map(
    [...tables.values()].filter(({ undo }) => undo === true).map(({ base }) => [baseName(base), base]),
  )
  return [...bases.values()].map((base) => {
    // Other programs pay for one comparison: for their rows, no trigger is even queued.
    const whose = `session_user = any (array[${agents.map(literal).join(', ')}]::name[])`
    const on = `${quoted(base.schema)}.${quoted(base.table)}`
    const sql =
      `create trigger ${quoted(names.policy)} after insert or update or delete on ${on}\n` +
      `for each row when (${whose}) execute function ${quoted(names.internal)}.record()`
    return { base, sql, digest: createHash('sha256').update(sql).digest('hex').slice(0, 32) }
  })
}

/** Rows are found by transaction; its number may come again in a server that was restored, its beginning not. */
export const changeTable = ({ internal }: Names, isThere: string): string =>
  block(`
begin
  if ${isThere} is distinct from ${literal(changeShape)} then
    drop table if exists ${quoted(internal)}.change cascade;
    create table ${quoted(internal)}.change (
      xid bigint not null,
      at timestamptz not null,
      place integer not null,
      session text,
      relation text not null,
      operation text not null,
      columns text[] not null,
      was text,
      became text,
      undone timestamptz,
      primary key (xid, at, place)
    );
    create index change_at on ${quoted(internal)}.change (at, xid) where place = 1;
    create index change_age on ${quoted(internal)}.change (at);
  end if;
end`)

/** Rows that one call of `forget_changes` deletes at most: the gateway calls until there are fewer. */
export const forgottenAtOnce = 5_000

export interface ChangeFunction {
  readonly name: 'record' | 'changes' | 'forget_changes'
  readonly arguments: string
  readonly returns: string
  readonly language: 'plpgsql' | 'sql'
  readonly isStable: boolean
  readonly settings: readonly (readonly [string, string])[]
  readonly body: string
  readonly users: 'gateway' | 'nobody'
}

export function changeFunctions({ internal }: Names, { undo = undoByDefault }: Database): readonly ChangeFunction[] {
  const change = `${quoted(internal)}.change`
  const { keep, rows } = undo
  return [
    {
      name: 'record',
      arguments: '',
      returns: 'trigger',
      language: 'plpgsql',
      isStable: false,
      settings: exactSettings,
      users: 'nobody',
      // session_user is who logged in, and whose the backend is stands where no agent can write.
      body: `
declare
  number bigint := pg_current_xact_id()::text::bigint;
  began timestamptz := now();
  whose text;
  next integer;
begin
  select s.session into whose from ${quoted(internal)}.session s
    where s.pid = pg_backend_pid() and s.role = session_user;
  if not found then
    raise exception 'this connection belongs to no session' using errcode = 'insufficient_privilege';
  end if;
  select coalesce(max(c.place), 0) + 1 into next from ${change} c where c.xid = number and c.at = began;
  if next > ${rows} then
    raise exception 'a transaction may change ${rows} rows of tables whose changes are kept for undoing, and no more'
      using errcode = 'program_limit_exceeded', hint = 'Change fewer rows at once.';
  end if;
  insert into ${change} (xid, at, place, session, relation, operation, columns, was, became) values (
    number, began, next, whose, format('%I.%I', tg_table_schema, tg_table_name), lower(tg_op),
    array(select a.attname::text from pg_attribute a
      where a.attrelid = tg_relid and a.attnum > 0 and not a.attisdropped order by a.attnum),
    case when tg_op <> 'INSERT' then old::text end, case when tg_op <> 'DELETE' then new::text end);
  return null;
end
`,
    },
    {
      name: 'changes',
      arguments: 'of_session text, most integer',
      returns: 'jsonb',
      language: 'sql',
      isStable: true,
      settings: [],
      users: 'gateway',
      // No value of any row.
      body: `
select coalesce(jsonb_agg(jsonb_build_object(
    'change', f.xid::text,
    'at', (extract(epoch from f.at) * 1000)::bigint,
    'session', f.session,
    'undone', f.undone is not null,
    'tables', (
      select jsonb_agg(jsonb_build_object('table', g.relation, 'operation', g.operation, 'rows', g.rows)
        order by g.relation, g.operation)
      from (select c.relation, c.operation, count(*) as rows from ${change} c
        where c.xid = f.xid and c.at = f.at group by c.relation, c.operation) g)
  ) order by f.at desc, f.xid desc), '[]')
from (select c.xid, c.at, c.session, c.undone from ${change} c
  where c.place = 1 and (of_session is null or c.session = of_session)
  order by c.at desc, c.xid desc limit most) f
`,
    },
    {
      name: 'forget_changes',
      arguments: '',
      returns: 'integer',
      language: 'plpgsql',
      isStable: false,
      settings: [],
      users: 'gateway',
      body: `
declare
  gone integer;
begin
  delete from ${change} where ctid = any (array(select c.ctid from ${change} c
    where c.at < now() - ${keep / 1000} * interval '1 second' order by c.at limit ${forgottenAtOnce}));
  get diagnostics gone = row_count;
  return gone;
end
`,
    },
  ]
}

/** Before the function that they call is made anew, or removed. */
export const dropTriggers = ({ internal }: Names): string =>
  block(`
declare
  gone record;
begin
  for gone in select t.tgname as name, t.tgrelid::regclass::text as relation from pg_trigger t
    join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = ${literal(internal)} and not t.tgisinternal and t.tgparentid = 0
  loop
    execute format('drop trigger %I on %s', gone.name, gone.relation);
  end loop;
end`)

/** By whoever owns the tables. Only while they make triggers may they name the function that these call. */
export function makeTriggers(kept: readonly Kept[], { policy, internal, owner }: Names): string {
  if (kept.length === 0) return ''
  const asOwner = (verb: 'grant' | 'revoke', word: 'to' | 'from'): string => `set local role ${quoted(owner)};
${block(`
begin
  if not (select rolsuper from pg_roles where rolname = session_user) then
    execute format('${verb} usage on schema ${quoted(internal)} ${word} %I', session_user);
    execute format('${verb} execute on function ${quoted(internal)}.record() ${word} %I', session_user);
  end if;
end`)}
reset role;`
  const made = kept.map(({ base, sql, digest }) => {
    const on = `${quoted(base.schema)}.${quoted(base.table)}`
    // Also where a session says that it only replays what others did.
    return `${sql};
alter table ${on} enable always trigger ${quoted(policy)};
${block(`
begin
  execute format('comment on trigger %I on ${on} is %L', ${literal(policy)}, 'sallyport: ${digest} ' || (
    select md5(pg_get_triggerdef(oid)) from pg_trigger
    where tgrelid = ${literal(on)}::text::regclass and tgname = ${literal(policy)}));
end`)}`
  })
  return [asOwner('grant', 'to'), ...made, asOwner('revoke', 'from')].join('\n')
}

/** What a table needs so that its changes can be kept and undone. `other` is a row of `base_schema`, `base_table`. */
export const canBeKept = `
    select c.oid, c.relkind, c.relowner into kept from pg_class c
      where c.oid = to_regclass(format('%I.%I', other.base_schema, other.base_table));
    if kept.relkind not in ('r', 'p')
        or not exists (select from pg_constraint where conrelid = kept.oid and contype = 'p') then
      raise exception 'table "%": \`undo\` needs a table with a primary key, and %.% is none',
        other.name, other.base_schema, other.base_table using hint = 'Give it a primary key, or leave out \`undo\`.';
    end if;
    if kept.relkind = 'r' and exists (select from pg_inherits where inhparent = kept.oid) then
      raise exception 'table "%": \`undo\` does not reach the tables that inherit from %.%',
        other.name, other.base_schema, other.base_table using hint = 'Leave out \`undo\`, or use partitions.';
    end if;
    if not pg_has_role(current_user, kept.relowner, 'usage') then
      raise exception 'table "%": only "%", who owns %.%, or a superuser can have its changes kept (\`undo\`)',
        other.name, pg_get_userbyid(kept.relowner), other.base_schema, other.base_table;
    end if;`
