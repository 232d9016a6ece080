import { createHash } from 'node:crypto'
import { catalogRelations, isBuiltInType } from './catalog.ts'
import type { Names } from './description.ts'
import { types } from './lists.ts'
import { literal, quoted } from './names.ts'

// The catalogs as an agent may see them: views and functions of the names that drivers ask for, in a schema of their
// own. What is shown is what the role that logged in holds: its views, the columns that it has a right to, their types,
// and what every database has. Numbers of objects made before anybody's (`FirstNormalObjectId`) are of PostgreSQL itself.

/** What a catalog shows. Columns that are neither kept nor replaced are null, those of later versions among them. */
interface CatalogView {
  readonly kept: string
  /** Expressions in place of columns. */
  readonly replaced?: Readonly<Record<string, string>>
  /** What is after FROM, in which `c` is the catalog. */
  readonly rows: string
}

/**
 * SQL that makes the catalogs for roles of agents, by the owner of the views; and that takes away what was there before,
 * which is all that it does where none are to be shown. The digest is of what is planned: `catalogState` finds it again.
 */
export function catalogSetup(
  names: Names,
  agents: readonly string[],
  shown: 'names' | 'none',
): { readonly sql: string; readonly digest: string | undefined } {
  const before = catalogRemoval(names)
  if (shown === 'none' || agents.length === 0) return { sql: before, digest: undefined }
  const made = [
    typesShown(names),
    makeViews(names),
    lookups(names),
    ...catalogFunctionsOf(names).map((each) => functionSql(each, names)),
    lookupCasts(names),
    grants(names, agents),
  ].join('\n')
  const digest = createHash('sha256').update(made).digest('hex').slice(0, 32)
  return { sql: `${before}\n${made}\n${sign(names, digest)}`, digest }
}

/** A query that gives, for a schema as `$1`, what `sign` has written down, and what is there. The search path is pinned. */
export const catalogState = `select
  (select obj_description(c.oid, 'pg_class') from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1::text and c.relname = 'pg_class') as signed,
  ${stateOf('(select oid from pg_namespace where nspname = $1::text)')} as state`

export const signed = (digest: string, state: string | null): string => `sallyport: ${digest} ${state}`

function block(body: string): string {
  return `do $sallyport$\n${body.trim()}\n$sallyport$;`
}

/** SQL that takes away whatever is in the schema of catalogs: casts, which nobody owns, go with it. */
export function catalogRemoval({ catalog }: Names): string {
  const schema = `(select oid from pg_namespace where nspname = ${literal(catalog)})`
  return block(`
declare
  gone text;
begin
  foreach gone in array array(
    select 'view if exists ' || oid::regclass from pg_class where relnamespace = ${schema} and relkind = 'v'
    union all
    select 'type if exists ' || oid::regtype from pg_type where typnamespace = ${schema} and typtype = 'e')
  loop
    execute 'drop ' || gone || ' cascade';
  end loop;
  foreach gone in array array(select oid::regprocedure::text from pg_proc where pronamespace = ${schema})
  loop
    execute 'drop routine if exists ' || gone || ' cascade';
  end loop;
end`)
}

/** The first number that can be of something that somebody made (`FirstNormalObjectId` in PostgreSQL's source). */
const firstOwn = 16_384

const policyOf = ({ policy }: Names): string => `${literal(quoted(policy))}::regnamespace`

/** Whether the role that logged in holds any right to a view `c`. */
const isHeld = `(has_any_column_privilege(session_user, c.oid, 'select, insert, update')
  or has_table_privilege(session_user, c.oid, 'delete'))`
const viewsHeld = (names: Names): string => `c.relnamespace = ${policyOf(names)} and c.relkind = 'v' and ${isHeld}`
const columnHeld = `has_column_privilege(session_user, a.attrelid, a.attnum, 'select, insert, update')`

/**
 * Types of the columns that a session may see, and of what these consist. Rows of tables are types too, and their names
 * are those of the tables: of these, only the views' own.
 */
const typesShown = (names: Names): string => `
create view ${quoted(names.catalog)}.shown_type with (security_barrier = true) as
with recursive shown (oid) as (
  select a.atttypid from pg_attribute a join pg_class c on c.oid = a.attrelid
    where ${viewsHeld(names)} and a.attnum > 0 and not a.attisdropped and ${columnHeld}
  union
  select c.reltype from pg_class c where ${viewsHeld(names)}
  union
  select part.oid from shown s join pg_type t on t.oid = s.oid left join pg_range r on r.rngtypid = t.oid
    or r.rngmultitypid = t.oid,
  lateral (
    select unnest(array[t.typelem, t.typbasetype, t.typarray, r.rngtypid, r.rngsubtype, r.rngmultitypid]) as oid
    union all
    select a.atttypid from pg_attribute a join pg_class k on k.oid = a.attrelid
      where k.oid = t.typrelid and k.relkind = 'c' and a.attnum > 0 and not a.attisdropped
  ) part
  where part.oid <> 0
)
select t.oid, t.typrelid from pg_type t where t.oid in (select oid from shown) and not exists (
  select from pg_class c join pg_type e on e.typrelid = c.oid
  where e.oid in (t.oid, t.typelem) and c.relkind <> 'c' and not (${viewsHeld(names)})
);`

/** Settings that say how values are to be read, or that a driver looks for before its first statement. */
const settingsShown = `DateStyle IntervalStyle TimeZone application_name bytea_output client_encoding
  default_table_access_method default_transaction_isolation default_transaction_read_only extra_float_digits
  integer_datetimes jit lock_timeout max_identifier_length max_index_keys search_path server_encoding server_version
  server_version_num standard_conforming_strings statement_timeout transaction_isolation transaction_read_only`

function catalogViews(names: Names): Readonly<Record<string, CatalogView>> {
  const { policy, owner, catalog } = names
  const shown = `(select oid from ${quoted(catalog)}.shown_type)`
  const parts = `(select typrelid from ${quoted(catalog)}.shown_type)`
  const ownSchema = (schema: string): string =>
    `case when ${schema} in ('pg_catalog', 'information_schema') then ${schema}::text else ${literal(policy)} end`
  const builtIn = (column: string): string =>
    `case when c.${column}::oid < ${firstOwn} then c.${column}::oid else 0 end`
  const each = (columns: string, expression: (column: string) => string): Record<string, string> =>
    Object.fromEntries(columns.split(/\s+/).map((column) => [column, expression(column)]))
  const roles = `c.rolname in (session_user, ${literal(owner)})`
  const here = `c.table_schema = ${literal(policy)}`
  return {
    pg_namespace: {
      kept: 'oid nspname nspowner',
      rows: `pg_catalog.pg_namespace c
        where c.oid = ${policyOf(names)} or c.nspname in ('pg_catalog', 'information_schema')`,
    },
    pg_class: {
      kept: 'oid relname reltype relowner relpersistence relkind relnatts',
      replaced: {
        relnamespace: policyOf(names),
        ...each(
          'reloftype relam relfilenode reltablespace reltoastrelid relrewrite relfrozenxid relminmxid',
          () => `'0'`,
        ),
        ...each('relpages relallvisible relallfrozen relchecks', () => '0'),
        ...each('relhasindex relisshared relhasrules relhastriggers relhassubclass', () => 'false'),
        ...each('relrowsecurity relforcerowsecurity relispartition', () => 'false'),
        reltuples: '-1',
        relispopulated: 'true',
        relreplident: `'n'`,
      },
      rows: `pg_catalog.pg_class c where (${viewsHeld(names)}) or (c.relkind = 'c' and c.oid in ${parts})`,
    },
    pg_attribute: {
      kept: `attrelid attname atttypid attlen attnum atttypmod attndims attbyval attalign attstorage attcompression
        attidentity attgenerated attisdropped attislocal attinhcount attcollation`,
      replaced: {
        ...each('attnotnull atthasdef atthasmissing', () => 'false'),
        ...each('attstattarget attcacheoff', () => '-1'),
      },
      rows: `pg_catalog.pg_attribute c where c.attnum > 0 and not c.attisdropped and exists (
        select from pg_catalog.pg_class k where k.oid = c.attrelid and (
          (k.relkind = 'c' and k.oid in ${parts})
          or (k.relnamespace = ${policyOf(names)} and k.relkind = 'v'
            and has_column_privilege(session_user, c.attrelid, c.attnum, 'select, insert, update'))))`,
    },
    pg_type: {
      kept: `oid typname typlen typbyval typtype typcategory typispreferred typisdefined typdelim typrelid typelem
        typarray typalign typstorage typnotnull typbasetype typtypmod typndims typcollation`,
      replaced: {
        typnamespace: `case when c.oid < ${firstOwn} then c.typnamespace else ${policyOf(names)}::oid end`,
        typowner: '10',
        ...each('typinput typoutput typreceive typsend typmodin typmodout typanalyze typsubscript', builtIn),
      },
      rows: `pg_catalog.pg_type c where case when c.oid < ${firstOwn}
        then c.typrelid = 0 and not exists (select from pg_type e where e.oid = c.typelem and e.typrelid <> 0)
        else c.oid in ${shown} end`,
    },
    pg_enum: {
      kept: 'oid enumtypid enumsortorder enumlabel',
      rows: `pg_catalog.pg_enum c where c.enumtypid in ${shown}`,
    },
    pg_range: {
      kept: 'rngtypid rngsubtype rngmultitypid rngcollation',
      replaced: each('rngsubopc rngcanonical rngsubdiff', builtIn),
      rows: `pg_catalog.pg_range c where c.rngtypid < ${firstOwn} or c.rngtypid in ${shown}`,
    },
    pg_proc: {
      kept: `oid proname pronamespace proowner prolang procost prorows provariadic prokind prosecdef proleakproof
        proisstrict proretset provolatile proparallel pronargs pronargdefaults prorettype proargtypes proallargtypes
        proargmodes proargnames`,
      rows: `pg_catalog.pg_proc c where c.oid < ${firstOwn} and c.oid in (
        select unnest(array[typinput, typoutput, typreceive, typsend]) from pg_type where typrelid = 0)`,
    },
    pg_am: { kept: 'oid amname amhandler amtype', rows: `pg_catalog.pg_am c where c.oid < ${firstOwn}` },
    pg_collation: {
      kept: `oid collname collnamespace collowner collprovider collisdeterministic collencoding collcollate collctype
        colllocale colliculocale`,
      rows: `pg_catalog.pg_collation c where c.oid < ${firstOwn}`,
    },
    pg_database: {
      kept: `oid datname encoding datlocprovider datistemplate datallowconn datcollate datctype datlocale daticulocale`,
      replaced: { datconnlimit: '-1' },
      rows: 'pg_catalog.pg_database c where c.datname = current_database()',
    },
    pg_roles: {
      kept: `oid rolname rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin rolreplication rolbypassrls`,
      replaced: { rolconnlimit: '-1', rolpassword: `'********'` },
      rows: `pg_catalog.pg_roles c where ${roles}`,
    },
    pg_user: {
      kept: '',
      replaced: {
        usename: 'c.rolname',
        usesysid: 'c.oid',
        usecreatedb: 'c.rolcreatedb',
        usesuper: 'c.rolsuper',
        userepl: 'c.rolreplication',
        usebypassrls: 'c.rolbypassrls',
        passwd: `'********'`,
      },
      rows: `pg_catalog.pg_roles c where ${roles}`,
    },
    pg_settings: {
      kept: 'name setting unit category short_desc context vartype min_val max_val enumvals',
      rows: `pg_catalog.pg_settings c where c.name in (${settingsShown.split(/\s+/).map(literal).join(', ')})`,
    },
    pg_views: {
      kept: '',
      replaced: { schemaname: literal(policy), viewname: 'c.relname', viewowner: literal(owner) },
      rows: `pg_catalog.pg_class c where ${viewsHeld(names)}`,
    },
    'information_schema.information_schema_catalog_name': {
      kept: 'catalog_name',
      rows: 'information_schema.information_schema_catalog_name c',
    },
    'information_schema.enabled_roles': {
      kept: 'role_name',
      rows: 'information_schema.enabled_roles c where c.role_name = session_user',
    },
    'information_schema.schemata': {
      kept: 'catalog_name schema_name',
      rows: `information_schema.schemata c
        where c.schema_name in (${literal(policy)}, 'pg_catalog', 'information_schema')`,
    },
    'information_schema.tables': {
      kept: 'table_catalog table_schema table_name table_type is_insertable_into is_typed',
      rows: `information_schema.tables c where ${here}`,
    },
    'information_schema.views': {
      kept: `table_catalog table_schema table_name is_updatable is_insertable_into is_trigger_updatable
        is_trigger_deletable is_trigger_insertable_into`,
      rows: `information_schema.views c where ${here}`,
    },
    'information_schema.columns': {
      kept: `table_catalog table_schema table_name column_name ordinal_position is_nullable data_type
        character_maximum_length character_octet_length numeric_precision numeric_precision_radix numeric_scale
        datetime_precision interval_type interval_precision domain_catalog domain_name udt_catalog udt_name
        dtd_identifier is_self_referencing is_identity identity_generation identity_cycle is_generated is_updatable`,
      replaced: {
        udt_schema: ownSchema('c.udt_schema'),
        domain_schema: `case when c.domain_schema is not null then ${ownSchema('c.domain_schema')} end`,
      },
      rows: `information_schema.columns c where ${here}`,
    },
    ...Object.fromEntries(
      ['table_privileges', 'role_table_grants', 'column_privileges'].map((name): [string, CatalogView] => [
        `information_schema.${name}`,
        {
          kept: `grantor grantee table_catalog table_schema table_name column_name privilege_type is_grantable
            with_hierarchy`,
          rows: `information_schema.${name} c where ${here} and c.grantee = session_user`,
        },
      ]),
    ),
  }
}

/** Types whose input looks a name up, and so would tell of one by an error wherever a constant stands beside them. */
const plainTypes = `case
        when atttypid = any (array['regproc', 'regprocedure', 'regoper', 'regoperator', 'regclass', 'regtype', 'regrole',
          'regnamespace', 'regconfig', 'regdictionary', 'regcollation']::regtype[]) then 'oid'
        when atttypid = 'aclitem[]'::regtype then 'text[]'
        when atttypid in ('aclitem'::regtype, 'anyarray'::regtype) then 'text'
        else format_type(atttypid, atttypmod) end`

/** The columns and their types are the server's own, whichever version it is of. */
function makeViews(names: Names): string {
  const views = catalogViews(names)
  const rows = [...catalogRelations.keys()].map((known) => {
    const [name = '', schema = 'pg_catalog'] = known.split('.').toReversed()
    const { kept = '', replaced = {}, rows: from } = views[known] ?? {}
    const list = kept.split(/\s+/).filter(Boolean).map(literal).join(', ')
    return `(${[schema, name].map(literal).join(', ')}, array[${list}]::text[], ${literal(JSON.stringify(replaced))}::jsonb, ${
      from === undefined ? `'where false'` : literal(`from ${from}`)
    })`
  })
  return block(`
declare
  one record;
  list text;
begin
  for one in select * from (values
    ${rows.join(',\n    ')}
  ) as views (source, name, kept, replaced, rows)
  loop
    select string_agg(
      case when one.replaced ? attname::text then '(' || (one.replaced ->> attname::text) || ')'
        when attname::text = any (one.kept) then 'c.' || quote_ident(attname)
        else 'null' end || '::' || type || ' as ' || quote_ident(attname), ', ' order by attnum)
    into list from (select attname, attnum, ${plainTypes} as type
      from pg_attribute where attrelid = to_regclass(format('%I.%I', one.source, one.name))
        and attnum > 0 and not attisdropped) columns;
    if list is not null then
      execute format('create view ${quoted(names.catalog)}.%I with (security_barrier = true) as select %s %s',
        one.name, list, one.rows);
    end if;
  end loop;
end`)
}

/** Names that a parameter can hold where a driver writes `CAST($1 AS regclass)`. Anything else gives one and the same error. */
function lookups({ catalog }: Names): string {
  const relations = [...catalogRelations.keys()].filter((name) => !name.includes('.'))
  const list = (labels: readonly string[]): string => [...new Set(labels)].map(literal).join(', ')
  const both = (labels: Iterable<string>): string => list([...labels].flatMap((name) => [name, `pg_catalog.${name}`]))
  return `create type ${quoted(catalog)}.regclass as enum (${both(relations)});
create type ${quoted(catalog)}.regtype as enum (${both([...types].filter(isBuiltInType))});`
}

/** Numbers of these names can be had; names of numbers can't. */
const lookupCasts = ({ catalog }: Names): string =>
  ['regclass', 'regtype']
    .map(
      (
        type,
      ) => `create cast (${quoted(catalog)}.${type} as oid) with function ${quoted(catalog)}.number_of(${quoted(catalog)}.${type}) as implicit;
create cast (oid as ${quoted(catalog)}.${type}) with function ${quoted(catalog)}.${type}_of(oid);`,
    )
    .join('\n')

interface CatalogFunction {
  readonly name: string
  readonly arguments: string
  readonly returns: string
  readonly body: string
  /** `inline`: an expression that names nothing which could be something else on another search path. */
  readonly kind?: 'inline' | 'plpgsql'
}

const identifier = `("[^".]+"|[[:alpha:]_][[:alnum:]_$]*)`

/** Only what the views show can be found by these. Those that give nothing are asked about what no view shows. */
function catalogFunctionsOf(names: Names): readonly CatalogFunction[] {
  const { catalog } = names
  const view = (name: string): string => `${quoted(catalog)}.${name}`
  const nothing = (
    returns: string,
    ...each: readonly (readonly [name: string, ...args: string[]])[]
  ): CatalogFunction[] =>
    each.flatMap(([name, ...args]) =>
      args.map((list) => ({
        name,
        arguments: list,
        returns,
        body: `select null::pg_catalog.${returns}`,
        kind: 'inline' as const,
      })),
    )
  const visible = (name: string, when: string): CatalogFunction => ({
    name,
    arguments: 'oid',
    returns: 'boolean',
    body: `select ${when}`,
    kind: 'inline',
  })
  const builtIn = `$1 operator(pg_catalog.<) ${firstOwn}::pg_catalog.oid`
  const one = ['oid', 'oid, boolean']
  return [
    {
      name: 'format_type',
      arguments: 'oid, integer',
      returns: 'text',
      kind: 'plpgsql',
      body: `
declare
  shown record;
begin
  if $1 is null or $1 < ${firstOwn} then
    return pg_catalog.format_type($1, $2);
  end if;
  select t.typname as name, e.typname as element, t.typcategory = 'A' as is_array into shown
    from ${view('pg_type')} t left join ${view('pg_type')} e on e.oid = t.typelem where t.oid = $1;
  return case when not found then '???' when shown.is_array then quote_ident(shown.element) || '[]'
    else quote_ident(shown.name) end;
end
`,
    },
    ...[
      ['to_regclass', 'pg_class', 'relname', 'relnamespace'],
      ['to_regtype', 'pg_type', 'typname', 'typnamespace'],
    ].map(([name = '', relation = '', column = '', schema = '']): CatalogFunction => ({
      name,
      arguments: 'text',
      returns: 'oid',
      // Names of built-in types have other spellings, such as `integer`, which PostgreSQL itself knows.
      body: `
select coalesce(${
        name === 'to_regtype'
          ? `
  (select t.oid from pg_type t where t.oid < ${firstOwn} and pg_catalog.format_type(t.oid, null) = lower($1) limit 1),`
          : ''
      }
  (select c.oid from ${view(relation)} c join ${view('pg_namespace')} n on n.oid = c.${schema},
      (select case when $1 ~ '^${identifier}([.]${identifier})?$' then parse_ident($1) end as name) asked
    where c.${column} = asked.name[cardinality(asked.name)] and (cardinality(asked.name) = 1 or n.nspname = asked.name[1])
    order by n.nspname = 'pg_catalog' desc limit 1))
`,
    })),
    {
      name: 'pg_get_userbyid',
      arguments: 'oid',
      returns: 'name',
      body: `select coalesce((select rolname from ${view('pg_roles')} where oid = $1), ('unknown (OID=' || $1 || ')')::name)`,
    },
    {
      name: 'pg_table_is_visible',
      arguments: 'oid',
      returns: 'boolean',
      body: `select exists (select from pg_class c where c.oid = $1 and ${viewsHeld(names)})`,
    },
    {
      name: 'pg_type_is_visible',
      arguments: 'oid',
      returns: 'boolean',
      kind: 'plpgsql',
      body: `
begin
  if $1 < ${firstOwn} then
    return true;
  end if;
  return exists (select from ${view('pg_type')} c where c.oid = $1);
end
`,
    },
    // Tools expect a text.
    ...[...one, 'text', 'text, boolean'].map((list) => ({
      name: 'pg_get_viewdef',
      arguments: list,
      returns: 'text',
      body: `select ''::pg_catalog.text`,
      kind: 'inline' as const,
    })),
    visible('pg_function_is_visible', builtIn),
    visible('pg_collation_is_visible', builtIn),
    visible('pg_operator_is_visible', builtIn),
    visible('pg_opclass_is_visible', builtIn),
    visible('pg_statistics_obj_is_visible', 'false'),
    ...nothing(
      'text',
      ['pg_get_expr', 'pg_node_tree, oid', 'pg_node_tree, oid, boolean'],
      ['pg_get_indexdef', 'oid', 'oid, integer, boolean'],
      ['pg_get_constraintdef', ...one],
      ['pg_get_ruledef', ...one],
      ['pg_get_triggerdef', ...one],
      ['pg_get_partkeydef', 'oid'],
      ['pg_get_functiondef', 'oid'],
      ['pg_get_function_result', 'oid'],
      ['pg_get_function_arguments', 'oid'],
      ['pg_get_function_identity_arguments', 'oid'],
      ['pg_get_serial_sequence', 'text, text'],
      ['pg_get_statisticsobjdef_columns', 'oid'],
      ['pg_tablespace_location', 'oid'],
      ['obj_description', 'oid', 'oid, name'],
      ['col_description', 'oid, integer'],
      ['shobj_description', 'oid, name'],
    ),
    ...nothing(
      'int8',
      ['pg_table_size', 'oid'],
      ['pg_relation_size', 'oid', 'oid, text'],
      ['pg_total_relation_size', 'oid'],
    ),
    ...['text', 'text, boolean'].map((list) => ({
      name: 'current_setting',
      arguments: list,
      returns: 'text',
      body: `select setting from ${view('pg_settings')} where lower(name) = lower($1)`,
    })),
    {
      name: 'set_config',
      arguments: 'text, text, boolean',
      returns: 'text',
      kind: 'plpgsql',
      body: `
begin
  if lower($1) = 'jit' and lower($2) in ('on', 'off') then
    return pg_catalog.set_config('jit', $2, $3);
  end if;
  raise exception 'this setting can''t be changed here' using errcode = 'insufficient_privilege';
end
`,
    },
    {
      name: '_pg_expandarray',
      arguments: 'anyarray, out x anyelement, out n integer',
      returns: 'setof record',
      body: `select $1[at], at - array_lower($1, 1) + 1 from generate_subscripts($1, 1) at`,
    },
    ...['regclass', 'regtype'].flatMap((type): CatalogFunction[] => [
      {
        name: 'number_of',
        arguments: view(type),
        returns: 'oid',
        body: `select pg_catalog.to_${type}('pg_catalog.' || quote_ident(replace($1::text, 'pg_catalog.', '')))::oid`,
      },
      { name: `${type}_of`, arguments: 'oid', returns: view(type), body: `select null::${view(type)}` },
    ]),
  ]
}

function functionSql({ name, arguments: list, returns, body, kind }: CatalogFunction, { catalog }: Names): string {
  const how = kind === 'plpgsql' ? 'plpgsql volatile' : kind === 'inline' ? 'sql immutable' : 'sql stable'
  return `create function ${quoted(catalog)}.${name}(${list}) returns ${returns}
language ${how} parallel safe${kind === 'inline' ? '' : ' set search_path = pg_catalog, pg_temp'}
as $body$${body}$body$;`
}

function grants(names: Names, agents: readonly string[]): string {
  const roles = agents.map(quoted).join(', ')
  const schema = quoted(names.catalog)
  return `revoke all on all routines in schema ${schema} from public;
grant usage on schema ${schema} to ${roles};
grant execute on all routines in schema ${schema} to ${roles};
grant select on all tables in schema ${schema} to ${roles};
revoke all on ${schema}.shown_type from ${roles};`
}

/** All that is in a schema, as one digest: what is read, called and cast, and by whom. */
function stateOf(schema: string): string {
  return `(select md5(string_agg(what, e'\\n' order by what)) from (
    select concat_ws(' ', 'relation', relname, relkind, pg_get_userbyid(relowner), reloptions, relacl, pg_get_viewdef(c.oid),
        (select count(*) from pg_rewrite where ev_class = c.oid), (select count(*) from pg_trigger where tgrelid = c.oid),
        (select string_agg(attacl::text, ' ' order by attnum) from pg_attribute where attrelid = c.oid)) as what
      from pg_class c where relnamespace = ${schema}
    union all
    select concat_ws(' ', 'routine', p.oid::regprocedure, prorettype::regtype, pg_get_userbyid(proowner), prolang, prokind,
        provolatile, proparallel, prosecdef, proisstrict, proleakproof, proconfig, proacl, prosrc)
      from pg_proc p where pronamespace = ${schema}
    union all
    select concat_ws(' ', 'type', typname, typtype, pg_get_userbyid(typowner), typacl,
        (select string_agg(enumlabel, ' ' order by enumsortorder) from pg_enum where enumtypid = t.oid),
        (select string_agg(concat_ws(' ', castsource::regtype, casttarget::regtype, castfunc::regprocedure, castcontext,
          castmethod), ' ' order by castfunc) from pg_cast where t.oid in (castsource, casttarget)))
      from pg_type t where typnamespace = ${schema}
    union all
    select concat_ws(' ', 'operator', o.oid::regoperator) from pg_operator o where oprnamespace = ${schema}
  ) all_of_it)`
}

const sign = ({ catalog }: Names, digest: string): string =>
  block(`
begin
  execute format('comment on view ${quoted(catalog)}.pg_class is %L', 'sallyport: ${digest} '
    || ${stateOf(`${literal(quoted(catalog))}::text::regnamespace`)});
end`)
