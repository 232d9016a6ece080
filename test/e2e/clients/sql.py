"""A program of an agent: goes through the story of sql-clients.test.ts with one of the PostgreSQL clients of Python, and says
what it was told."""

import datetime
import json
import os
import sys
import threading
import time
import uuid

env = os.environ
thing, who, note, ca = env["THING"], env["WHO"], int(env["NOTE"]), env.get("CA", "")
host, port, user, token = "127.0.0.1", int(env["PORT"]), "worker", env["TOKEN"]
tls = {"sslmode": "verify-full", "sslrootcert": ca} if ca else {"sslmode": "disable"}
at = datetime.datetime(2026, 2, 3, 4, 5, 6, 789000, tzinfo=datetime.timezone.utc)
long_one = "select count(*) from generate_series(1, 9999) a cross join generate_series(1, 9999) b"
typed = "select n, name, ok, nothing, at, data, list from things where id = "


def plain(value):
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)


def say(step, value):
    print(json.dumps({"step": step, "value": value}, default=plain), flush=True)


def state_of(thrown):
    thrown = getattr(thrown, "orig", None) or thrown
    return getattr(thrown, "sqlstate", None) or getattr(thrown, "pgcode", None) or ""


def told(thrown):
    return {"state": state_of(thrown), "message": str(getattr(thrown, "orig", None) or thrown)}


def error(work):
    try:
        work()
    except Exception as thrown:
        return told(thrown)
    return {"state": "", "message": "it was not refused"}


def is_end(thrown):
    return state_of(thrown) == "57P01" or any(each in str(thrown) for each in ("closed", "terminat", "lost"))


def until_over(ask):
    say("waiting", True)
    for _ in range(200):
        try:
            ask()
        except Exception as thrown:
            return say("ended", is_end(thrown) or str(thrown))
        time.sleep(0.05)
    say("ended", False)


def told_of(notices):
    return any("waiting for approval" in each for each in notices)


def psycopg2_client():
    import psycopg2
    from psycopg2.extras import Json

    connection = psycopg2.connect(host=host, port=port, user=user, password=token, dbname="desk", **tls)

    def rows(query, given=None):
        with connection.cursor() as cursor:
            cursor.execute(query, given)
            return [list(row) for row in cursor.fetchall()] if cursor.description else cursor.rowcount

    connection.autocommit = True
    say("own", rows("select id, subject from tickets order by id"))
    rows(
        "insert into things (id, customer_id, n, name, ok, nothing, at, data, list) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (thing, 7, 42, "naïve 'text'", True, None, at, Json({"a": [1, 2]}), [1, 2, 3]),
    )
    say("types", rows(typed + "%s", (thing,))[0])
    rows("prepare one (int) as select subject from tickets where id = $1")
    say("prepared", [rows("execute one (%s)", (1 + i % 2,))[0][0] for i in range(8)])
    connection.autocommit = False
    rows("insert into entries (customer_id, who, body) values (7, %s, 'kept')", (who,))
    connection.commit()
    rows("insert into entries (customer_id, who, body) values (7, %s, 'gone')", (who,))
    connection.rollback()
    say("transactions", rows("select body from entries where who = %s", (who,)))
    connection.commit()
    connection.autocommit = True
    say("refused", error(lambda: rows("select pg_sleep(1)")))
    say("hidden", error(lambda: rows("select * from salaries where amount > %s", (1,))))
    say("after", rows("select 1"))
    connection.autocommit = False
    states = [error(lambda: rows("select pg_sleep(1)"))["state"], error(lambda: rows("select 1"))["state"]]
    connection.rollback()
    say("failed", states + [0, rows("select 1")[0]])
    connection.rollback()
    with connection.cursor(name="read") as cursor:
        cursor.itersize = 10
        cursor.execute("select id from notes where id > 1000 order by id")
        say("cursor", [row[0] for row in cursor])
    connection.commit()
    connection.autocommit = True
    threading.Timer(0.3, connection.cancel).start()
    say("cancel", error(lambda: rows(long_one)))
    with connection.cursor() as cursor:
        say("copy", error(lambda: cursor.copy_expert("copy tickets to stdout", sys.stderr)))
    say("listen", error(lambda: rows("listen news")))
    say("held", rows("delete from notes where id = %s", (note,)))
    say("notice", told_of(connection.notices))
    until_over(lambda: rows("select 1"))


def psycopg_client():
    import psycopg
    from psycopg.types.json import Jsonb

    notices = []
    connection = psycopg.connect(host=host, port=port, user=user, password=token, dbname="desk", autocommit=True, **tls)
    connection.add_notice_handler(lambda given: notices.append(given.message_primary))

    def rows(query, given=None, **more):
        cursor = connection.execute(query, given, **more)
        return [list(row) for row in cursor.fetchall()] if cursor.description else cursor.rowcount

    say("own", rows("select id, subject from tickets order by id"))
    values = (uuid.UUID(thing), 7, 42, "naïve 'text'", True, None, at, Jsonb({"a": [1, 2]}), [1, 2, 3])
    rows("insert into things (id, customer_id, n, name, ok, nothing, at, data, list) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)", values)
    say("types", rows(typed + "%s", (thing,))[0])
    # Binary, both ways.
    binary = connection.cursor(binary=True)
    binary.execute(typed + "%b", (uuid.UUID(thing),))
    say("binary", list(binary.fetchone()))
    say("prepared", [rows("select subject from tickets where id = %s", (1 + i % 2,))[0][0] for i in range(8)])
    with connection.transaction():
        rows("insert into entries (customer_id, who, body) values (7, %s, 'kept')", (who,))
    try:
        with connection.transaction():
            rows("insert into entries (customer_id, who, body) values (7, %s, 'gone')", (who,))
            raise psycopg.Rollback()
    except psycopg.Rollback:
        pass
    say("transactions", rows("select body from entries where who = %s", (who,)))
    say("refused", error(lambda: rows("select pg_sleep(1)")))
    say("refused prepared", error(lambda: rows("select pg_sleep(%s)", (1,), prepare=True)))
    say("hidden", error(lambda: rows("select * from salaries where amount > %s", (1,))))
    say("after", rows("select 1"))
    rows("begin")
    states = [error(lambda: rows("select pg_sleep(1)"))["state"], error(lambda: rows("select 1"))["state"]]
    connection.rollback()
    say("failed", states + [0, rows("select 1")[0]])
    with connection.transaction(), connection.cursor(name="read") as cursor:
        cursor.itersize = 10
        cursor.execute("select id from notes where id > %s order by id", (1000,))
        say("cursor", [row[0] for row in cursor])
    with connection.pipeline():
        sent = [connection.execute("select subject from tickets where id = %s", (each,)) for each in (1, 2, 1, 2)]
        say("pipeline", [cursor.fetchone()[0] for cursor in sent])
    say("pipeline refused", pipeline_refused(connection))
    threading.Timer(0.3, connection.cancel_safe).start()
    say("cancel", error(lambda: rows(long_one)))
    with connection.cursor() as cursor:

        def copy():
            with cursor.copy("copy tickets to stdout") as out:
                for each in out:
                    print(bytes(each))

        say("copy", error(copy))
    say("listen", error(lambda: rows("listen news")))
    say("held", rows("delete from notes where id = %s", (note,)))
    say("notice", told_of(notices))
    until_over(lambda: rows("select 1"))


def pipeline_refused(connection):
    """One of three is refused: what is behind it in the pipeline does not run, what comes after its end does."""
    states = []
    try:
        with connection.pipeline() as pipeline:
            connection.execute("select subject from tickets where id = %s", (1,))
            connection.execute("select pg_sleep(%s)", (1,))
            connection.execute("select subject from tickets where id = %s", (2,))
            pipeline.sync()
    except Exception as thrown:
        states.append(state_of(thrown))
    states.append(connection.execute("select 1").fetchone()[0])
    return states


def asyncpg_client():
    import asyncio
    import ssl

    import asyncpg

    async def error_of(work):
        try:
            await work
        except Exception as thrown:
            return told(thrown)
        return {"state": "", "message": "it was not refused"}

    async def story():
        context = ssl.create_default_context(cafile=ca) if ca else False
        connection = await asyncpg.connect(
            host=host, port=port, user=user, password=token, database="desk", ssl=context
        )
        notices = []
        connection.add_log_listener(lambda _, message: notices.append(message.message))
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        own = await connection.fetch("select id, subject from tickets order by id")
        say("own", [list(row) for row in own])
        await connection.execute(
            "insert into things (id, customer_id, n, name, ok, nothing, at, data, list) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            *(uuid.UUID(thing), 7, 42, "naïve 'text'", True, None, at, {"a": [1, 2]}, [1, 2, 3]),
        )
        say("types", list(await connection.fetchrow(typed + "$1", uuid.UUID(thing))))
        statement = await connection.prepare("select subject from tickets where id = $1")
        say("prepared", [await statement.fetchval(1 + i % 2) for i in range(8)])
        insert = "insert into entries (customer_id, who, body) values (7, $1, $2)"
        async with connection.transaction():
            await connection.execute(insert, who, "kept")
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(insert, who, "gone")
        await transaction.rollback()
        kept = await connection.fetch("select body from entries where who = $1", who)
        say("transactions", [list(row) for row in kept])
        say("refused", await error_of(connection.execute("select pg_sleep(1)")))
        say("refused prepared", await error_of(connection.fetch("select pg_sleep($1)", 1)))
        say("hidden", await error_of(connection.fetch("select * from salaries where amount > $1", 1)))
        say("after", [[await connection.fetchval("select 1")]])
        transaction = connection.transaction()
        await transaction.start()
        states = [(await error_of(connection.fetch(each)))["state"] for each in ("select pg_sleep(1)", "select 1")]
        await transaction.rollback()
        say("failed", states + [0, [await connection.fetchval("select 1")]])
        async with connection.transaction():
            query = connection.cursor("select id from notes where id > $1 order by id", 1000, prefetch=10)
            say("cursor", [row[0] async for row in query])
        try:
            await connection.fetchval(long_one, timeout=0.3)
            say("cancel", False)
        except asyncio.TimeoutError:
            # It has told the server to stop, and waits until it has.
            say("cancel", {"state": "57014", "message": "it stopped after %s" % await connection.fetchval("select 1")})
        say("copy", await error_of(connection.copy_from_table("tickets", output=sys.stderr.buffer)))
        say("listen", await error_of(connection.add_listener("news", lambda *_: None)))
        say("held", int((await connection.execute("delete from notes where id = $1", note)).split()[-1]))
        await asyncio.sleep(0)
        say("notice", told_of(notices))
        say("waiting", True)
        for _ in range(200):
            try:
                await connection.fetchval("select 1")
            except Exception as thrown:
                return say("ended", is_end(thrown) or str(thrown))
            await asyncio.sleep(0.05)

    asyncio.run(story())


def sqlalchemy_client():
    import sqlalchemy as sa
    from sqlalchemy.dialects.postgresql import ARRAY, JSONB

    url = sa.URL.create("postgresql+psycopg", user, token, host, port, "desk")
    engine = sa.create_engine(url, connect_args=tls, pool_size=1, max_overflow=0)
    meta = sa.MetaData()
    tickets = sa.Table("tickets", meta, sa.Column("id", sa.Integer), sa.Column("subject", sa.Text))
    salaries = sa.Table("salaries", meta, sa.Column("amount", sa.Integer))
    notes = sa.Table("notes", meta, sa.Column("id", sa.Integer))
    entries = sa.Table(
        "entries", meta, sa.Column("customer_id", sa.Integer), sa.Column("who", sa.Text), sa.Column("body", sa.Text)
    )
    things = sa.Table(
        "things",
        meta,
        sa.Column("id", sa.Uuid),
        sa.Column("customer_id", sa.Integer),
        sa.Column("n", sa.Integer),
        sa.Column("name", sa.Text),
        sa.Column("ok", sa.Boolean),
        sa.Column("nothing", sa.Text),
        sa.Column("at", sa.DateTime(timezone=True)),
        sa.Column("data", JSONB),
        sa.Column("list", ARRAY(sa.Integer)),
    )

    def rows(statement, given=None):
        with engine.begin() as connection:
            result = connection.execute(statement, given or {})
            return [list(row) for row in result] if result.returns_rows else result.rowcount

    say("own", rows(sa.select(tickets.c.id, tickets.c.subject).order_by(tickets.c.id)))
    values = {"id": uuid.UUID(thing), "customer_id": 7, "n": 42, "name": "naïve 'text'", "ok": True, "nothing": None}
    rows(sa.insert(things).values(**values, at=at, data={"a": [1, 2]}, list=[1, 2, 3]))
    say("types", rows(sa.select(*list(things.c)[2:]).where(things.c.id == uuid.UUID(thing)))[0])
    one = sa.select(tickets.c.subject).where(tickets.c.id == sa.bindparam("id"))
    say("prepared", [rows(one, {"id": 1 + i % 2})[0][0] for i in range(8)])
    with engine.connect() as connection:
        connection.execute(sa.insert(entries).values(customer_id=7, who=who, body="kept"))
        connection.commit()
        connection.execute(sa.insert(entries).values(customer_id=7, who=who, body="gone"))
        connection.rollback()
    say("transactions", rows(sa.select(entries.c.body).where(entries.c.who == who)))
    say("refused", error(lambda: rows(sa.text("select pg_sleep(1)"))))
    say("hidden", error(lambda: rows(sa.select(salaries))))
    say("after", rows(sa.text("select 1")))
    with engine.connect() as connection:
        ask = lambda query: connection.exec_driver_sql(query)
        states = [error(lambda: ask(each))["state"] for each in ("select pg_sleep(1)", "select 1")]
        connection.rollback()
        say("failed", states + [0, list(ask("select 1").fetchone())])
    with engine.connect() as connection:
        query = sa.select(notes.c.id).where(notes.c.id > 1000).order_by(notes.c.id)
        result = connection.execution_options(stream_results=True, max_row_buffer=10).execute(query)
        say("cursor", [row[0] for row in result])
    inspector = sa.inspect(engine)
    say("tables", sorted(inspector.get_view_names() + inspector.get_table_names()))
    say("columns", [[each["name"], str(each["type"])] for each in inspector.get_columns("tickets")])
    say("no columns", error(lambda: inspector.get_columns("salaries")))
    say("keys", [inspector.get_pk_constraint("tickets")["constrained_columns"], inspector.get_foreign_keys("tickets")])
    reflected = sa.Table("tickets", sa.MetaData(), autoload_with=engine)
    say("reflected", rows(sa.select(reflected.c.subject).order_by(reflected.c.id)))
    # In autocommit: people are not asked while a transaction is open.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        say("held", connection.execute(sa.delete(notes).where(notes.c.id == note)).rowcount)
    with engine.connect() as connection:
        until_over(lambda: connection.exec_driver_sql("select 1"))


clients = {
    "psycopg2": psycopg2_client,
    "psycopg 3": psycopg_client,
    "asyncpg": asyncpg_client,
    "SQLAlchemy": sqlalchemy_client,
}
clients[env["CLIENT"]]()
