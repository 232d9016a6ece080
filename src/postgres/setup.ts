import { createHash } from 'node:crypto'
import { Failure } from '../core/failure.ts'
import { catalogRemoval, catalogSetup } from './catalog-views.ts'
import {
  baseName,
  canBeKept,
  changeFunctions,
  changeShape,
  changeTable,
  dropTriggers,
  keptTables,
  makeTriggers,
} from './changes.ts'
import type { Kept } from './changes.ts'
import type { Database, Names, Table, Verb } from './description.ts'
import { verbs } from './description.ts'
import { compileFilter } from './filter.ts'
import { maskedColumn } from './mask.ts'
import { block, literal, namesOf, quoted } from './names.ts'
import { agentPassword, scramVerifier } from './password.ts'

// What is made in a database so that it shows agents what is described and nothing else: roles, views, rights. Of what
// was there before, nothing changes but the rights that the views' owner needs.

export interface Settings {
  /** Of the database in its server. Names of roles hold for a whole server: they carry a comment that says whose they are. */
  readonly databaseName: string
  readonly gateway: {
    /** The role that the gateway itself logs in as. Made where it is not there. */
    readonly user: string
    /** Its password. Without one, no password is set, and a script asks for them. */
    readonly password?: string
  }
  /** What each agent's role may do, by table. */
  readonly agents: ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<Verb>>>
  /** Connections that each agent's role may have at one moment. */
  readonly connections: number
}

export interface Step {
  readonly title: string
  /** One or more statements. */
  readonly sql: string
  /** Holds what nobody may see: `script` is shown in its place. */
  readonly secret?: true
  /** What stands in a script for `psql`, where it is not `sql`. */
  readonly script?: string
}

/** What is to be done, and what is to be found afterwards. */
export interface Plan {
  readonly alias: string
  readonly databaseName: string
  readonly names: Names
  /** In order, in one transaction. */
  readonly steps: readonly Step[]
  /** Of a script: variables of `psql` that hold passwords, by role. */
  readonly passwords: ReadonlyMap<string, string>
  readonly expected: Expected
}

/** What `verify` compares the catalogs with. */
export interface Expected {
  /** The comment on every role and schema that was made for this resource. */
  readonly mark: string
  readonly gateway: string
  readonly roles: readonly ExpectedRole[]
  readonly views: readonly ExpectedView[]
  readonly functions: readonly ExpectedFunction[]
  /** Tables of which changes are kept. */
  readonly kept: readonly Kept[]
  /** Of the statements that make the catalogs as agents may see them. Undefined: there are none. */
  readonly catalog: string | undefined
}

export interface ExpectedRole {
  readonly name: string
  readonly agent?: string
  readonly connections: number
  /** As they stand in pg_db_role_setting, sorted. */
  readonly settings: readonly string[]
}

export interface ExpectedView {
  readonly table: Table
  /** Of the statement that makes it. Stands in the comment on the view, beside the digest of what the server made of it. */
  readonly digest: string
  readonly columns: readonly string[]
  readonly isWritable: boolean
  /** By role, the columns for each verb; `delete` has none. */
  readonly grants: ReadonlyMap<string, ReadonlyMap<Verb, readonly string[]>>
}

export interface ExpectedFunction {
  readonly name: string
  readonly arguments: string
  readonly body: string
  readonly returns: string
  /** What stands behind `returns` in the statement that makes it, but its settings. */
  readonly declared: string
  /** The same as `verify` reads it from the catalogs, with what it returns. */
  readonly kind: string
  /** As they stand in pg_proc. */
  readonly settings: readonly string[]
  readonly users: 'agents' | 'gateway' | 'nobody'
}

/** Fails with `invalid` where the description can't be carried out; says nothing of the database itself. */
export async function planSetup(database: Database, settings: Settings): Promise<Plan> {
  const { alias } = database
  const names = namesOf(alias)
  const { databaseName, gateway } = settings
  const roles = rolesOf(database, settings, names)
  const views = await Promise.all(
    [...database.tables.values()].map((table) => viewOf(table, database, settings, names)),
  )
  const gone = new Set(roles.map(({ name }) => name))
  if (gone.size < roles.length) throw new Failure('invalid', `two agents of \`${alias}\` would have the same role`)
  if (gone.has(gateway.user))
    throw new Failure('invalid', `\`${gateway.user}\` is the role of an agent: the gateway needs one of its own`)
  const mark = markOf(databaseName, alias)
  const { owner } = names
  const catalog = catalogSetup(names, agentsOf(roles), database.catalog)
  const kept = keptTables(database, names, agentsOf(roles))
  const passwords = new Map([gateway.user, ...agentsOf(roles)].map((role) => [role, variableOf(role)]))
  const steps: Step[] = [
    { title: 'Names are resolved in the system catalogs alone', sql: pinned },
    { title: 'Nothing here belongs to somebody else, and the administrator may do what follows', sql: checks(plan()) },
    { title: `Role of the gateway: ${gateway.user}`, sql: gatewayRole(gateway.user, databaseName) },
    ...passwordOf(gateway.user, gateway.password, gateway.password, true),
    {
      title: `Role that owns the views, and can't log in: ${owner}`,
      sql: makeRole(owner, 'nologin', -1, mark, databaseName),
    },
    ...roles
      .filter(({ agent }) => agent !== undefined)
      .flatMap((role) => [
        { title: `Role of agent ${role.agent}: ${role.name}`, sql: agentRole(role, mark, databaseName) },
        ...passwordOf(
          role.name,
          gateway.password,
          gateway.password === undefined ? undefined : agentPassword(gateway.password, role.name),
        ),
      ]),
    { title: 'The owner of the views may name what is in the schemas that they read', sql: schemaGrants(views, names) },
    { title: 'The administrator may act as the owner of the views', sql: become(owner) },
    {
      title: 'Roles of agents that hold nothing any more are removed',
      sql: dropRoles(
        mark,
        roles.map(({ name }) => name),
      ),
    },
    { title: 'Triggers that were there before are removed', sql: dropTriggers(names) },
    { title: 'Schemas, which nobody else may use', sql: schemas(names, mark) },
    { title: 'Changes that are kept', sql: changeTable(names, shapeOf(names.internal, 'change')) },
    { title: 'Whose a connection is: written by the gateway, read by the views', sql: sessions(names, gateway.user) },
    { title: 'The key of hashes', sql: hashKey(names) },
    { title: 'Views that were there before are removed', sql: dropViews(names) },
    { title: 'Functions that views, triggers and the gateway call', sql: functions(plan()) },
    ...views.map((view) => ({
      title: `View of ${view.table.base.schema}.${view.table.base.table}: ${view.table.name}`,
      sql: `${view.sql};\n${signView(view, names)}`,
    })),
    { title: 'What agents may do with the views', sql: agentGrants(views, roles, names) },
    { title: 'Catalogs as agents may see them', sql: catalog.sql },
    { title: 'The administrator is itself again', sql: 'reset role;' },
    ...(kept.length === 0
      ? []
      : [
          {
            title: `Triggers that keep changes: ${kept.map(({ base }) => baseName(base)).join(', ')}`,
            sql: makeTriggers(kept, names),
          },
        ]),
    { title: 'The owner of the views may do what they need, and nothing else', sql: ownerGrants(views, names) },
    { title: 'Agents that insert may draw from the sequences of defaults', sql: sequenceGrants(views, roles) },
    { title: 'The administrator leaves the role of the owner', sql: unbecome(owner) },
  ]
  return { ...plan(), steps }

  function plan(): Plan {
    const expected = {
      mark,
      gateway: gateway.user,
      roles,
      views,
      functions: functionsOf(names, database),
      kept,
      catalog: catalog.digest,
    }
    return { alias, databaseName, names, passwords, expected, steps: [] }
  }
}

/** Takes everything away again that `planSetup` makes: roles, schemas and rights. Tables and their rows stay as they are. */
export function planRemove(alias: string, { databaseName, gateway }: Pick<Settings, 'databaseName' | 'gateway'>): Plan {
  const names = namesOf(alias)
  const mark = markOf(databaseName, alias)
  const expected: Expected = {
    mark,
    gateway: gateway.user,
    roles: [],
    views: [],
    functions: [],
    kept: [],
    catalog: undefined,
  }
  const plan: Plan = { alias, databaseName, names, passwords: new Map(), expected, steps: [] }
  return {
    ...plan,
    steps: [
      { title: 'Names are resolved in the system catalogs alone', sql: pinned },
      { title: 'Nothing that is removed belongs to somebody else', sql: checks(plan) },
      { title: 'The administrator may act as the owner of the views', sql: become(names.owner) },
      { title: 'Triggers that keep changes', sql: dropTriggers(names) },
      { title: 'Catalogs as agents saw them', sql: catalogRemoval(names) },
      { title: 'Roles of agents, with all that they hold', sql: dropRoles(mark, [names.owner]) },
      { title: 'Views, schemas, their owner, and all that it holds', sql: dropRoles(mark, []) },
      { title: 'The role of the gateway, if nothing else needs it', sql: dropGateway(gateway.user, databaseName) },
    ],
  }
}

const markOf = (databaseName: string, alias: string): string => `sallyport: ${databaseName}/${alias}`
const gatewayMark = 'sallyport: gateway'

/** Milliseconds that an agent's transaction may lie idle, and wait for a lock; kilobytes of temporary files. */
const idleTransaction = 60_000
const longestLock = 5_000
const temporaryFiles = 262_144

function rolesOf({ most }: Database, { agents, connections }: Settings, names: Names): ExpectedRole[] {
  const roles = [...agents].map(([agent, tables]): ExpectedRole => {
    const isReader = [...tables.values()].every((held) => [...held].every((verb) => verb === 'select'))
    return {
      name: names.agent(agent),
      agent,
      connections,
      settings: [
        ...(isReader ? ['default_transaction_read_only=on'] : []),
        `idle_in_transaction_session_timeout=${idleTransaction}`,
        `lock_timeout=${Math.min(longestLock, most.time)}`,
        `search_path=${names.policy}, pg_temp`,
        'standard_conforming_strings=on',
        `statement_timeout=${most.time}`,
      ].sort(),
    }
  })
  return [{ name: names.owner, connections: -1, settings: [] }, ...roles]
}

const agentsOf = (roles: readonly ExpectedRole[]): readonly string[] =>
  roles.filter(({ agent }) => agent !== undefined).map(({ name }) => name)

interface View extends ExpectedView {
  readonly sql: string
  /** Schemas of what it reads and calls. */
  readonly schemas: readonly string[]
}

async function viewOf(table: Table, { facts }: Database, settings: Settings, names: Names): Promise<View> {
  const { name, base, select, insert, update, where } = table
  const masked = [...insert, ...update].find((column) => (select.get(column) ?? 'none') !== 'none')
  if (masked !== undefined)
    throw new Failure('invalid', `\`${name}.${masked}\` is masked, so it can't be written as well`)
  const columns = [...new Set([...select.keys(), ...insert, ...update, ...table.key])]
  const within = async <T>(part: string, work: Promise<T>): Promise<T> =>
    work.catch((thrown: unknown) => {
      const { code, message } = Failure.from(thrown)
      throw new Failure(code, `\`${name}\`, ${part}: ${message}`, { cause: thrown })
    })
  const listed = await Promise.all(
    columns.map((column) =>
      within(`mask of \`${column}\``, maskedColumn(column, select.get(column) ?? 'none', facts, names)),
    ),
  )
  const filter = where && (await within('`where`', compileFilter(where.source, facts, names)))
  const isWritable = insert.length + update.length > 0
  const sql =
    `create view ${quoted(names.policy)}.${quoted(name)} with (security_barrier = true) as\n` +
    `select ${listed.map((column) => column.sql).join(', ')}\nfrom ${quoted(base.schema)}.${quoted(base.table)}` +
    (filter === undefined ? '' : `\nwhere (\n${filter.sql}\n)`) +
    (isWritable ? '\nwith cascaded check option' : '')
  const grants = [...settings.agents].flatMap(([agent, tables]) => {
    const given = verbs
      .filter((verb) => tables.get(name)?.has(verb) && isPossible(table, verb))
      .map((verb) => [verb, verb === 'delete' ? [] : verb === 'select' ? [...select.keys()] : table[verb]] as const)
    return given.length === 0 ? [] : [[names.agent(agent), new Map(given)] as const]
  })
  return {
    table,
    digest: createHash('sha256').update(sql).digest('hex').slice(0, 32),
    columns,
    isWritable,
    grants: new Map(grants),
    sql,
    schemas: [base.schema, ...(filter?.schemas ?? []), ...listed.flatMap((column) => column.schemas)],
  }
}

const isPossible = (table: Table, verb: Verb): boolean =>
  verb === 'delete' ? table.delete : verb === 'select' ? table.select.size > 0 : table[verb].length > 0

// The statements. A name is always quoted, a value always a literal: what is configured can't end either.

const list = (values: readonly string[]): string => `array[${values.map(literal).join(', ')}]::text[]`
const columnList = (columns: readonly string[]): string => columns.map(quoted).join(', ')

const pinned = "set local search_path = pg_catalog, pg_temp;\nset local lock_timeout = '10s';"

function checks({ names, databaseName, expected: { mark, roles, views, kept } }: Plan): string {
  const schemaNames = list([names.policy, names.internal, names.catalog])
  const rolesToMake = list([...new Set([names.owner, ...roles.map(({ name }) => name)])])
  const bases = views.map(
    ({ table: { base, name }, columns }) =>
      `(${literal(name)}, ${literal(base.schema)}, ${literal(base.table)}, ${list(columns)}, ${kept.some((each) => baseName(each.base) === baseName(base))})`,
  )
  return block(`
declare
  other record;
  kept record;
  missing text;
begin
  if current_setting('server_version_num')::int < 140000 then
    raise exception 'PostgreSQL 14 or newer is needed, this is %', current_setting('server_version');
  end if;
  if current_database() <> ${literal(databaseName)} then
    raise exception 'this is the database "%", not "%"', current_database(), ${literal(databaseName)};
  end if;
  select rolname as name into other from pg_roles
    where rolname = any (${rolesToMake}) and shobj_description(oid, 'pg_authid') is distinct from ${literal(mark)};
  if found then
    raise exception 'the role "%" is there already, and was not made for this database and resource', other.name
      using hint = 'Rename or drop it, or give the resource another name.';
  end if;
  select nspname as name into other from pg_namespace
    where nspname = any (${schemaNames}) and obj_description(oid, 'pg_namespace') is distinct from ${literal(mark)};
  if found then
    raise exception 'the schema "%" is there already, and was not made for this resource', other.name
      using hint = 'Rename or drop it, or give the resource another name.';
  end if;${bases.length === 0 ? '' : tablesExist(bases)}
  if not (select rolsuper from pg_roles where rolname = current_user) then
    if not (select rolcreaterole from pg_roles where rolname = current_user) then
      raise exception 'the administrator "%" may not make roles', current_user
        using hint = 'Use a superuser, or a role with CREATEROLE that owns the database and its tables.';
    end if;
    if not has_database_privilege(current_user, current_database(), 'create') then
      raise exception 'the administrator "%" may not make schemas in "%"', current_user, current_database()
        using hint = 'Use a superuser, or the owner of the database with CREATEROLE.';
    end if;
  end if;
end`)
}

const tablesExist = (bases: readonly string[]): string => `
  for other in select * from (values
    ${bases.join(',\n    ')}
  ) as described (name, base_schema, base_table, columns, is_kept)
  loop
    if to_regclass(format('%I.%I', other.base_schema, other.base_table)) is null then
      raise exception 'table "%": there is no %.%', other.name, other.base_schema, other.base_table;
    end if;
    select string_agg(wanted, ', ') into missing from unnest(other.columns) wanted
      where not exists (select from pg_attribute where attname = wanted and attnum > 0 and not attisdropped
        and attrelid = to_regclass(format('%I.%I', other.base_schema, other.base_table)));
    if missing is not null then
      raise exception 'table "%": %.% has no column %', other.name, other.base_schema, other.base_table, missing;
    end if;
    if not other.is_kept then
      continue;
    end if;${canBeKept}
  end loop;`

const attributes = 'nosuperuser noinherit nocreaterole nocreatedb noreplication nobypassrls'

/** A role that is there keeps its name and its password; whatever gives it power is taken from it. */
function makeRole(
  role: string,
  login: 'login' | 'nologin',
  connections: number,
  mark: string,
  databaseName: string,
): string {
  const name = quoted(role)
  return `${block(`
begin
  if not exists (select from pg_roles where rolname = ${literal(role)}) then
    create role ${name} ${login} ${attributes};
    comment on role ${name} is ${literal(mark)};
  end if;
  if exists (select from pg_roles where rolname = ${literal(role)}
      and (rolsuper or rolcreatedb or rolreplication or rolbypassrls)) then
    alter role ${name} nosuperuser nocreatedb noreplication nobypassrls;
  end if;
end`)}
alter role ${name} ${login} noinherit nocreaterole connection limit ${connections} valid until 'infinity';
alter role ${name} reset all;
alter role ${name} in database ${quoted(databaseName)} reset all;
${block(`
declare
  held record;
begin
  for held in select r.rolname as role, g.rolname as grantor from pg_auth_members m
    join pg_roles r on r.oid = m.roleid left join pg_roles g on g.oid = m.grantor
    where m.member = ${literal(role)}::text::regrole
  loop
    execute format('revoke %I from %I', held.role, ${literal(role)})
      || case when current_setting('server_version_num')::int >= 160000 and held.grantor is not null
           then format(' granted by %I', held.grantor) else '' end;
  end loop;
end`)}`
}

function agentRole({ name, connections, settings }: ExpectedRole, mark: string, databaseName: string): string {
  const set = settings.map((each) => {
    const [setting = '', value = ''] = each.split('=')
    const written = setting === 'search_path' ? value.split(', ').map(quoted).join(', ') : literal(value)
    return `alter role ${quoted(name)} set ${setting} = ${written};`
  })
  return `${makeRole(name, 'login', connections, mark, databaseName)}
${set.join('\n')}
${block(`
begin
  alter role ${quoted(name)} set temp_file_limit = ${temporaryFiles};
exception when insufficient_privilege then
  raise notice 'only a superuser can limit the temporary files of "%"', ${literal(name)};
end`)}
${connect(name, databaseName)}`
}

const connect = (role: string, databaseName: string): string =>
  block(`
begin
  if not has_database_privilege(${literal(role)}, current_database(), 'connect') then
    grant connect on database ${quoted(databaseName)} to ${quoted(role)};
  end if;
end`)

const gatewayRole = (user: string, databaseName: string): string =>
  `${block(`
begin
  if not exists (select from pg_roles where rolname = ${literal(user)}) then
    create role ${quoted(user)} login ${attributes} connection limit 20;
    comment on role ${quoted(user)} is ${literal(gatewayMark)};
  elsif shobj_description(${literal(user)}::text::regrole, 'pg_authid') is distinct from ${literal(gatewayMark)} then
    raise notice 'the role "%" was there already: its attributes and its password stay as they are', ${literal(user)};
  end if;
end`)}
${connect(user, databaseName)}`

const variableOf = (role: string): string => `password_of_${role.toLowerCase().replaceAll(/[^a-z0-9_]/g, '_')}`

function passwordOf(role: string, own: string | undefined, password: string | undefined, isGateway = false): Step[] {
  const script = `alter role ${quoted(role)} password :'${variableOf(role)}';`
  const title = `Password of ${role}`
  if (own === undefined || password === undefined) return [{ title, sql: '', script, secret: true }]
  const set = `alter role ${quoted(role)} password ${literal(scramVerifier(password, role))};`
  const sql = isGateway
    ? block(`
begin
  if shobj_description(${literal(role)}::text::regrole, 'pg_authid') = ${literal(gatewayMark)} then
    ${set}
  end if;
end`)
    : set
  return [{ title, sql, script, secret: true }]
}

/** Whoever is not a superuser has to be a member of a role to do something in its name. */
const join = (role: string): string =>
  `if not (select rolsuper from pg_roles where rolname = current_user) then
      execute format('grant %I to %I', ${role}, current_user);
    end if;`

/** An administrator may act as a role, and no longer. */
export const become = (owner: string): string =>
  block(`
begin
  if exists (select from pg_roles where rolname = ${literal(owner)}) then
    ${join(literal(owner))}
  end if;
end`)

export const unbecome = (owner: string): string =>
  block(`
begin
  if not (select rolsuper from pg_roles where rolname = current_user) then
    execute format('revoke %I from %I', ${literal(owner)}, current_user);
  end if;
end`)

const dropRoles = (mark: string, but: readonly string[]): string =>
  block(`
declare
  gone text;
begin
  for gone in select rolname from pg_roles where shobj_description(oid, 'pg_authid') = ${literal(mark)}
    and rolname <> all (${list(but)})
  loop
    ${join('gone')}
    execute format('drop owned by %I', gone);
    execute format('drop role %I', gone);
  end loop;
end`)

const dropGateway = (user: string, databaseName: string): string =>
  block(`
declare
  gateway oid := (select oid from pg_roles where rolname = ${literal(user)});
begin
  if gateway is null then
    return;
  end if;
  if shobj_description(gateway, 'pg_authid') is distinct from ${literal(gatewayMark)} then
    raise notice 'the role "%" was not made by Sallyport, and stays', ${literal(user)};
    return;
  end if;
  if exists (select from pg_shdepend where refclassid = 'pg_authid'::regclass and refobjid = gateway
      and not (classid = 'pg_database'::regclass
        and objid = (select oid from pg_database where datname = current_database()))) then
    raise notice 'the role "%" is needed elsewhere, and stays', ${literal(user)};
    return;
  end if;
  revoke all on database ${quoted(databaseName)} from ${quoted(user)};
  drop role ${quoted(user)};
end`)

/** Rights that anybody but the owner holds on what a query gives: `kind` and `name` of things, and their `acl`. */
const revokeAll = (things: string): string =>
  block(`
declare
  held record;
begin
  for held in select distinct t.kind, t.name, case when a.grantee = 0 then 'public'
      else quote_ident(pg_get_userbyid(a.grantee)) end as grantee
    from (${things}) t, aclexplode(t.acl) a where a.grantee <> t.owner
  loop
    execute format('revoke all on %s %s from %s cascade', held.kind, held.name, held.grantee);
  end loop;
end`)

function schemas({ policy, internal, catalog, owner }: Names, mark: string): string {
  const all = [policy, internal, catalog]
  return `${all.map((schema) => `create schema if not exists ${quoted(schema)} authorization ${quoted(owner)};`).join('\n')}
set local role ${quoted(owner)};
${all.map((schema) => `comment on schema ${quoted(schema)} is ${literal(mark)};`).join('\n')}
${revokeAll(`select 'schema' as kind, quote_ident(nspname) as name, nspacl as acl, nspowner as owner
      from pg_namespace where nspname = any (${list(all)})`)}`
}

/** Columns of the tables that views need, in order: how `verify` knows them. */
export const internalTables: Readonly<Record<'session' | 'key' | 'change', string>> = {
  session: 'pid integer, role name, scope jsonb, opened timestamp with time zone, session text',
  key: 'one boolean, inner_pad bytea, outer_pad bytea',
  change: changeShape,
}

const shapeOf = (internal: string, table: string): string =>
  `(select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum) from pg_attribute
    where attrelid = to_regclass(${literal(`${quoted(internal)}.${table}`)}) and attnum > 0 and not attisdropped)`

/** The gateway writes here whose a connection is, before its first statement. Not logged: sessions end with the server. */
const sessions = ({ internal }: Names, gateway: string): string => `${block(`
begin
  if ${shapeOf(internal, 'session')} is distinct from ${literal(internalTables.session)} then
    drop table if exists ${quoted(internal)}.session cascade;
    create unlogged table ${quoted(internal)}.session (
      pid integer primary key,
      role name not null,
      scope jsonb not null,
      opened timestamptz not null default now(),
      session text
    );
  end if;
end`)}
${revokeAll(`select 'table' as kind, c.oid::regclass::text as name, c.relacl as acl, c.relowner as owner
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname = ${literal(internal)} and c.relkind = 'r'`)}
grant usage on schema ${quoted(internal)} to ${quoted(gateway)};
grant select, insert, update, delete on ${quoted(internal)}.session to ${quoted(gateway)};`

// HMAC (RFC 2104) from the built-in sha256, because not every database has an extension that brings it: its two padded
// keys, made once. Random bytes come from gen_random_uuid, of which each holds 122 random bits.
const hashKey = ({ internal }: Names): string =>
  block(`
declare
  random bytea;
  inner_key bytea := decode(repeat('36', 64), 'hex');
  outer_key bytea := decode(repeat('5c', 64), 'hex');
begin
  if ${shapeOf(internal, 'key')} is distinct from ${literal(internalTables.key)} then
    drop table if exists ${quoted(internal)}.key cascade;
    create table ${quoted(internal)}.key (
      one boolean primary key default true check (one), inner_pad bytea not null, outer_pad bytea not null
    );
  end if;
  if not exists (select from ${quoted(internal)}.key) then
    random := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    for place in 0..31 loop
      inner_key := set_byte(inner_key, place, get_byte(inner_key, place) # get_byte(random, place));
      outer_key := set_byte(outer_key, place, get_byte(outer_key, place) # get_byte(random, place));
    end loop;
    insert into ${quoted(internal)}.key (inner_pad, outer_pad) values (inner_key, outer_key);
  end if;
end`)

const dropViews = ({ policy }: Names): string =>
  block(`
declare
  gone text;
begin
  for gone in select quote_ident(relname) from pg_class
    where relnamespace = ${literal(quoted(policy))}::text::regnamespace and relkind = 'v'
  loop
    execute 'drop view ${quoted(policy)}.' || gone;
  end loop;
end`)

/** Settings of every function that runs with its owner's rights: nothing that a caller sets changes what it means. */
const functionSettings: readonly string[] = ['search_path=pg_catalog, pg_temp']

const ofViews = {
  returns: 'text',
  declared: 'language plpgsql stable strict parallel restricted security definer',
  kind: 'plpgsql f s r definer strict text',
  settings: functionSettings,
  users: 'agents',
} as const

const functionsOf = (names: Names, database: Database): ExpectedFunction[] => [
  ...functionsOfViews(names),
  ...changeFunctions(names, database).map(({ language, isStable, returns, settings, ...each }) => ({
    ...each,
    returns,
    declared: `language ${language} ${isStable ? 'stable' : 'volatile'} security definer`,
    kind: `${language} f ${isStable ? 's' : 'v'} u definer ${returns}`,
    settings: [...functionSettings, ...settings.map((setting) => setting.join('='))],
  })),
]

const functionsOfViews = ({ internal }: Names): ExpectedFunction[] => [
  {
    ...ofViews,
    name: 'scope',
    arguments: 'fact text',
    // session_user is who logged in: a function that runs as its owner does not change it, nor can an agent.
    body: `
declare
  value jsonb;
begin
  select s.scope -> fact into value from ${quoted(internal)}.session s
    where s.pid = pg_backend_pid() and s.role = session_user;
  if not found then
    raise exception 'this connection belongs to no session' using errcode = 'insufficient_privilege';
  end if;
  if coalesce(jsonb_typeof(value), 'null') = 'null' then
    raise exception 'the session has no fact "%"', fact using errcode = 'insufficient_privilege';
  end if;
  if jsonb_typeof(value) = 'array' then
    return coalesce((select array_agg(each)::text from jsonb_array_elements_text(value) each), '{}');
  end if;
  return value #>> '{}';
end
`,
  },
  {
    ...ofViews,
    name: 'hash',
    arguments: 'value text',
    body: `
declare
  pads record;
begin
  select inner_pad, outer_pad into strict pads from ${quoted(internal)}.key;
  return left(encode(sha256(pads.outer_pad || sha256(pads.inner_pad || convert_to(value, 'UTF8'))), 'hex'), 32);
end
`,
  },
]

function functions({ names: { internal }, expected }: Plan): string {
  const users = { agents: agentsOf(expected.roles), gateway: [expected.gateway], nobody: [] }
  const made = expected.functions.map(({ name, arguments: args, body, returns, declared, settings, users: whose }) => {
    const set = settings.map((each) => {
      const [setting = '', value = ''] = each.split('=')
      return ` set ${setting} = ${value.split(', ').map(literal).join(', ')}`
    })
    const types = args
      .split(', ')
      .map((each) => each.split(' ').at(-1))
      .join(', ')
    const function_ = `${quoted(internal)}.${name}(${types})`
    const grant = users[whose].map(quoted).join(', ')
    return `create function ${quoted(internal)}.${name}(${args}) returns ${returns}
${declared}${set.join('')}
as $body$${body}$body$;
revoke all on function ${function_} from public;${grant && `\ngrant execute on function ${function_} to ${grant};`}`
  })
  return `${block(`
declare
  gone text;
begin
  for gone in select oid::regprocedure::text from pg_proc
    where pronamespace = ${literal(quoted(internal))}::text::regnamespace
  loop
    execute 'drop routine ' || gone;
  end loop;
end`)}
${made.join('\n')}`
}

/** What the server makes of a view, and what it was made from: `verify` sees whether either has changed. */
const signView = ({ table: { name }, digest }: View, { policy }: Names): string =>
  block(`
begin
  execute format('comment on view %I.%I is %L', ${literal(policy)}, ${literal(name)}, 'sallyport: ${digest} ' || md5(pg_get_viewdef(${literal(`${quoted(policy)}.${quoted(name)}`)}::text::regclass)));
end`)

function agentGrants(views: readonly View[], roles: readonly ExpectedRole[], { policy }: Names): string {
  const usage = agentsOf(roles).map((role) => `grant usage on schema ${quoted(policy)} to ${quoted(role)};`)
  const rights = views.flatMap(({ table: { name }, grants }) =>
    [...grants].map(([role, given]) => {
      const rights_ = [...given].map(([verb, columns]) =>
        verb === 'delete' ? 'delete' : `${verb} (${columnList(columns)})`,
      )
      return `grant ${rights_.join(', ')} on ${quoted(policy)}.${quoted(name)} to ${quoted(role)};`
    }),
  )
  return [...usage, ...rights].join('\n')
}

/** Before views are made: whoever makes one has to be able to name what is in it. */
const schemaGrants = (views: readonly View[], { owner }: Names): string =>
  block(`
declare
  needed text;
begin
  for needed in select nspname from pg_namespace
    where nspname = any (${list([...new Set(views.flatMap((view) => view.schemas))])})
      and not has_schema_privilege(${literal(owner)}, oid, 'usage')
  loop
    execute format('grant usage on schema %I to %I', needed, ${literal(owner)});
  end loop;
end`)

/** Relations and columns outside of our own schemas that the views read. */
export const readByViews = (policy: string): string => `
  select distinct d.refobjid as relation, d.refobjsubid as attribute from pg_catalog.pg_depend d
  join pg_catalog.pg_rewrite w on w.oid = d.objid
  join pg_catalog.pg_class v on v.oid = w.ev_class
  where d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    and d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    and v.relnamespace = (select oid from pg_catalog.pg_namespace where nspname = ${literal(policy)})
    and d.refobjid <> v.oid`

function ownerGrants(views: readonly View[], { owner, policy, internal, catalog }: Names): string {
  const rights = views.map(({ table: { base, insert, update, delete: canDelete }, columns }) => {
    const given = [
      ...(columns.length > 0 ? [`select (${columnList(columns)})`] : []),
      ...(insert.length > 0 ? [`insert (${columnList(insert)})`] : []),
      ...(update.length > 0 ? [`update (${columnList(update)})`] : []),
      ...(canDelete ? ['delete'] : []),
    ]
    return given.length === 0
      ? ''
      : `grant ${given.join(', ')} on ${quoted(base.schema)}.${quoted(base.table)} to ${quoted(owner)};`
  })
  return `${block(`
declare
  held record;
begin
  for held in select c.oid::regclass as name from pg_class c
    where c.relnamespace <> all (array(select oid from pg_namespace where nspname = any (${list([policy, internal, catalog])})))
      and c.relowner <> ${literal(quoted(owner))}::text::regrole
      and (exists (select from aclexplode(c.relacl) where grantee = ${literal(quoted(owner))}::text::regrole)
        or exists (select from pg_attribute a, aclexplode(a.attacl)
          where a.attrelid = c.oid and grantee = ${literal(quoted(owner))}::text::regrole))
  loop
    execute format('revoke all on %s from %I', held.name, ${literal(owner)});
  end loop;
end`)}
${rights.join('\n')}
-- What filters and masks read beside that.
${block(`
declare
  needed record;
begin
  for needed in select r.relation::regclass as name, a.attname as column from (${readByViews(policy)}) r
    join pg_class c on c.oid = r.relation and c.relkind in ('r', 'p', 'v', 'm', 'f')
    join pg_attribute a on a.attrelid = r.relation
      and a.attnum = case when r.attribute > 0 then r.attribute else (select min(attnum) from pg_attribute
        where attrelid = r.relation and attnum > 0 and not attisdropped) end
    where not has_column_privilege(${literal(owner)}, r.relation, a.attnum, 'select')
  loop
    execute format('grant select (%I) on %s to %I', needed.column, needed.name, ${literal(owner)});
  end loop;
end`)}`
}

/** A default that draws from a sequence does so with the rights of whoever inserts, not with those of the view's owner. */
function sequenceGrants(views: readonly View[], roles: readonly ExpectedRole[]): string {
  const agents = agentsOf(roles)
  const inserts = views.flatMap(({ table: { base }, grants }) =>
    [...grants]
      .filter(([, given]) => given.has('insert'))
      .map(([role]) => `(${literal(role)}, ${literal(base.schema)}, ${literal(base.table)})`),
  )
  const grant = `
  for held in select distinct i.role, s.oid::regclass as name from (values
      ${inserts.join(',\n      ')}
    ) as i (role, base_schema, base_table)
    join pg_attrdef f on f.adrelid = to_regclass(format('%I.%I', i.base_schema, i.base_table))
    join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
    join pg_class s on s.oid = d.refobjid and s.relkind = 'S'
  loop
    execute format('grant usage on sequence %s to %I', held.name, held.role);
  end loop;`
  return block(`
declare
  held record;
begin
  for held in select distinct c.oid::regclass as name, pg_get_userbyid(a.grantee) as role
    from pg_class c, aclexplode(c.relacl) a
    where c.relkind = 'S' and a.grantee <> 0 and pg_get_userbyid(a.grantee) = any (${list(agents)})
  loop
    execute format('revoke all on sequence %s from %I', held.name, held.role);
  end loop;${inserts.length === 0 ? '' : grant}
end`)
}
