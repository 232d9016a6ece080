"""Runs a program in a pseudo terminal: commands as JSON lines on stdin, what it writes on stdout.

pseudo-terminal.py <rows> <columns> <program> [argument ...]
"""
import fcntl, json, os, pty, select, signal, struct, sys, termios

rows, columns, argv = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]


def resize(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))


child, master = pty.fork()
if child == 0:
    resize(0, rows, columns)
    os.execvp(argv[0], argv)

commands, watched = b'', [0, master]
while True:
    ready, _, _ = select.select(watched, [], [])
    if master in ready:
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b''
        if not data:
            break
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            os.kill(child, signal.SIGHUP)
            watched.remove(0)
            continue
        commands += data
        *lines, commands = commands.split(b'\n')
        for line in lines:
            command = json.loads(line)
            if 'keys' in command:
                os.write(master, command['keys'].encode())
            if 'size' in command:
                resize(master, *command['size'])
            if 'signal' in command:
                os.kill(child, getattr(signal, command['signal']))

_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
