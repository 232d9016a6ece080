import java.sql.*;
import java.util.*;

/** A program of an agent: goes through the story of sql-clients.test.ts with JDBC, and says what it was told. */
public class Sql {
    interface Work {
        Object run() throws SQLException;
    }

    static Connection connection;
    static final String LONG =
        "select count(*) from generate_series(1, 9999) a cross join generate_series(1, 9999) b";

    static String json(Object value) {
        if (value == null) return "null";
        if (value instanceof Number || value instanceof Boolean) return value.toString();
        if (value instanceof Map<?, ?> map) {
            var parts = new ArrayList<String>();
            for (var each : map.entrySet()) parts.add(json(each.getKey()) + ":" + json(each.getValue()));
            return "{" + String.join(",", parts) + "}";
        }
        if (value instanceof List<?> list) return "[" + String.join(",", list.stream().map(Sql::json).toList()) + "]";
        var text = new StringBuilder("\"");
        for (char each : value.toString().toCharArray()) {
            if (each == '"' || each == '\\') text.append('\\').append(each);
            else if (each < ' ') text.append(String.format("\\u%04x", (int) each));
            else text.append(each);
        }
        return text.append('"').toString();
    }

    static void say(String step, Object value) {
        System.out.println(json(new TreeMap<>(Map.of("step", step, "value", value))));
        System.out.flush();
    }

    static Map<String, Object> error(Work work) {
        try {
            work.run();
            return Map.of("state", "", "message", "it was not refused");
        } catch (SQLException thrown) {
            return Map.of("state", Objects.toString(thrown.getSQLState(), ""), "message", thrown.getMessage());
        }
    }

    static List<Object> read(ResultSet found) throws SQLException {
        var rows = new ArrayList<Object>();
        int columns = found.getMetaData().getColumnCount();
        while (found.next()) {
            var row = new ArrayList<Object>();
            for (int at = 1; at <= columns; at++) row.add(found.getObject(at));
            rows.add(row);
        }
        return rows;
    }

    static Object rows(String query, Object... given) throws SQLException {
        try (var statement = connection.prepareStatement(query)) {
            for (int at = 0; at < given.length; at++) statement.setObject(at + 1, given[at]);
            return statement.execute() ? read(statement.getResultSet()) : statement.getUpdateCount();
        }
    }

    static Object simple(String query) throws SQLException {
        try (var statement = connection.createStatement()) {
            return statement.execute(query) ? read(statement.getResultSet()) : statement.getUpdateCount();
        }
    }

    static boolean isNotice(SQLWarning warning) {
        for (; warning != null; warning = warning.getNextWarning())
            if (warning.getMessage().startsWith("waiting for approval")) return true;
        return false;
    }

    public static void main(String[] args) throws Exception {
        var env = System.getenv();
        var ca = env.getOrDefault("CA", "");
        var info = new Properties();
        info.setProperty("user", "worker");
        info.setProperty("password", env.get("TOKEN"));
        info.setProperty("sslmode", ca.isEmpty() ? "disable" : "verify-full");
        if (!ca.isEmpty()) info.setProperty("sslrootcert", ca);
        connection = DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + env.get("PORT") + "/desk", info);
        var thing = UUID.fromString(env.get("THING"));
        var who = env.get("WHO");

        say("own", rows("select id, subject from tickets order by id"));
        try (var insert = connection.prepareStatement("insert into things (id, customer_id, n, name, ok, nothing, at, data, list) values (?, ?, ?, ?, ?, ?, ?, ?::jsonb, ?)")) {
            insert.setObject(1, thing);
            insert.setInt(2, 7);
            insert.setInt(3, 42);
            insert.setString(4, "naïve 'text'");
            insert.setBoolean(5, true);
            insert.setNull(6, Types.VARCHAR);
            insert.setObject(7, java.time.OffsetDateTime.parse("2026-02-03T04:05:06.789Z"));
            insert.setString(8, "{\"a\": [1, 2]}");
            insert.setArray(9, connection.createArrayOf("int4", new Integer[] {1, 2, 3}));
            insert.executeUpdate();
        }
        try (var select = connection.prepareStatement(
                "select n, name, ok, nothing, at, data, list from things where id = ?")) {
            select.setObject(1, thing);
            var row = select.executeQuery();
            row.next();
            var values = new ArrayList<Object>(List.of(row.getInt(1), row.getString(2), row.getBoolean(3)));
            values.add(row.getObject(4));
            values.add(row.getObject(5, java.time.OffsetDateTime.class).toInstant().toString());
            values.add(Map.of("a", row.getString(6).equals("{\"a\": [1, 2]}") ? List.of(1, 2) : row.getString(6)));
            values.add(Arrays.asList((Integer[]) row.getArray(7).getArray()));
            say("types", values);
        }
        // From the fifth time on the driver keeps it at the server, and values come in binary.
        var prepared = new ArrayList<Object>();
        try (var statement = connection.prepareStatement("select subject from tickets where id = ?")) {
            for (int i = 0; i < 8; i++) {
                statement.setInt(1, 1 + i % 2);
                var row = statement.executeQuery();
                row.next();
                prepared.add(row.getString(1));
            }
        }
        say("prepared", prepared);
        connection.setAutoCommit(false);
        var insert = "insert into entries (customer_id, who, body) values (7, ?, ?)";
        rows(insert, who, "kept");
        connection.commit();
        rows(insert, who, "gone");
        connection.rollback();
        connection.setAutoCommit(true);
        say("transactions", rows("select body from entries where who = ?", who));
        say("refused", error(() -> simple("select pg_sleep(1)")));
        say("refused prepared", error(() -> rows("select pg_sleep(?)", 1)));
        say("hidden", error(() -> rows("select * from salaries where amount > ?", 1)));
        say("after", rows("select 1"));
        connection.setAutoCommit(false);
        var states = new ArrayList<Object>();
        states.add(error(() -> rows("select pg_sleep(1)")).get("state"));
        states.add(error(() -> rows("select 1")).get("state"));
        connection.rollback();
        states.add(0);
        states.add(((List<?>) rows("select 1")).get(0));
        say("failed", states);
        var ids = new ArrayList<Object>();
        try (var statement = connection.prepareStatement("select id from notes where id > ? order by id")) {
            statement.setFetchSize(10);
            statement.setInt(1, 1000);
            var found = statement.executeQuery();
            while (found.next()) ids.add(found.getInt(1));
        }
        connection.commit();
        connection.setAutoCommit(true);
        say("cursor", ids);
        var batch = new ArrayList<Object>();
        try (var statement = connection.prepareStatement("insert into entries (customer_id, who, body) values (7, ?, ?)")) {
            for (int i = 0; i < 3; i++) {
                statement.setString(1, who + " batch");
                statement.setString(2, "of " + i);
                statement.addBatch();
            }
            for (int count : statement.executeBatch()) batch.add(count);
        }
        say("batch", batch);
        try (var statement = connection.createStatement()) {
            new Timer(true).schedule(new TimerTask() {
                public void run() {
                    try {
                        statement.cancel();
                    } catch (SQLException thrown) {
                        System.err.println(thrown.getMessage());
                    }
                }
            }, 300);
            say("cancel", error(() -> statement.execute(LONG)));
        }
        say("copy", error(() -> connection.unwrap(org.postgresql.PGConnection.class).getCopyAPI().copyOut("copy tickets to stdout")));
        say("listen", error(() -> simple("listen news")));
        var tables = new TreeSet<String>();
        var found = connection.getMetaData().getTables(null, null, "%", new String[] {"TABLE", "VIEW"});
        while (found.next()) tables.add(found.getString("TABLE_NAME"));
        say("tables", new ArrayList<>(tables));
        var columns = new ArrayList<Object>();
        found = connection.getMetaData().getColumns(null, null, "tickets", "%");
        while (found.next()) columns.add(List.of(found.getString("COLUMN_NAME"), found.getString("TYPE_NAME")));
        say("columns", columns);
        found = connection.getMetaData().getColumns(null, null, "salaries", "%");
        say("no columns", found.next());
        try (var statement = connection.prepareStatement("delete from notes where id = ?")) {
            statement.setInt(1, Integer.parseInt(env.get("NOTE")));
            say("held", statement.executeUpdate());
            say("notice", isNotice(statement.getWarnings()));
        }
        say("waiting", true);
        for (int tries = 0; tries < 200; tries++) {
            var thrown = error(() -> rows("select 1"));
            var state = thrown.get("state").toString();
            if (!state.isEmpty()) {
                say("ended", state.equals("57P01") || state.startsWith("08"));
                return;
            }
            Thread.sleep(50);
        }
    }
}
