"""The module ``qt`` as PythonQt offers it, made of PySide6: properties are attributes, enums ints, signals texts.

Only the classes of ``CLASSES`` exist; all are in Qt 5 as well. PySide's ``true_property`` takes getters and setters
away together; Qt's setters and ``isX`` getters are slots or methods in PythonQt, so they are put back.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

# PythonQt's enums are ints. PySide reads this once, when it is first imported.
if "PySide6" not in sys.modules:
    os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "3"
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

CLASSES = {
    "QtCore": (
        "QBuffer QByteArray QCoreApplication QDateTime QDir QEvent QEventLoop QFile QFileInfo QItemSelection "
        "QItemSelectionModel QLocale QModelIndex QObject QPoint QPointF QProcess QProcessEnvironment QRect QRectF "
        "QRegularExpression QSettings QSignalBlocker QSize QSizeF QSortFilterProxyModel QStandardPaths QSysInfo QTimer "
        "QUrl Qt"
    ),
    "QtGui": (
        "QAction QActionGroup QBrush QColor QCursor QDesktopServices QFont QFontMetrics QGuiApplication QIcon QImage "
        "QKeySequence QMouseEvent QPainter QPainterPath QPaintEvent QPalette QPen QPixmap QPolygonF QShortcut "
        "QStandardItem QStandardItemModel QTransform"
    ),
    "QtWidgets": (
        "QAbstractButton QAbstractItemView QApplication QButtonGroup QCheckBox QComboBox QDialog QDialogButtonBox "
        "QDoubleSpinBox QFileDialog QFormLayout QFrame QGraphicsScene QGraphicsView QGridLayout QGroupBox QHBoxLayout "
        "QHeaderView QInputDialog QLabel QLineEdit QListWidget QListWidgetItem QMainWindow QMenu QMessageBox "
        "QPlainTextEdit QProgressBar QPushButton QRadioButton QScrollArea QSizePolicy QSlider QSpacerItem QSpinBox "
        "QSplitter QStackedWidget QStatusBar QStyle QStyledItemDelegate QTableView QTableWidget QTableWidgetItem "
        "QTabBar QTabWidget QTextBrowser QTextEdit QToolButton QToolTip QTreeView QTreeWidget QTreeWidgetItem "
        "QVBoxLayout QWidget"
    ),
}


@contextlib.contextmanager
def _torch_aside() -> Iterator[None]:
    """PySide reads the source of every module there is, on which torch's make-believe modules break."""
    aside = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torch"}
    try:
        yield
    finally:
        sys.modules.update(aside)


with _torch_aside():
    _MODULES = {name: importlib.import_module(f"PySide6.{name}") for name in (*CLASSES, "QtUiTools")}
QtCore, QtGui, QtWidgets, QtUiTools = _MODULES.values()


def _keep_none() -> None:
    """Keep None from being freed: PySide is built as if it could not be, which is so from Python 3.12 on only.

    Each of its methods that returns nothing takes one reference of None away, until Python 3.11 ends the process.
    """
    if sys.version_info < (3, 12):
        ctypes.c_ssize_t.from_address(id(None)).value += 2**40


_keep_none()


def _methods_before() -> dict[type, set[str]]:
    """The methods of each QObject class, noted before the properties take their getters and setters away."""
    found = {}
    for module in (QtCore, QtGui, QtWidgets):
        for thing in [getattr(module, name) for name in dir(module)]:
            if isinstance(thing, type) and issubclass(thing, QtCore.QObject):
                found[thing] = set(dir(thing))
    return found


def _put_back(cls: type, methods: set[str]) -> None:
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        capital = name[0].upper() + name[1:]
        if f"set{capital}" in methods:
            setattr(cls, f"set{capital}", lambda self, *values, name=name: _set(self, name, values))
        if f"is{capital}" in methods:
            setattr(cls, f"is{capital}", lambda self, name=name: getattr(self, name))


def _set(self: Any, name: str, values: tuple[Any, ...]) -> None:
    """Set a property by its value, or by the numbers it is made of: ``setMinimumSize(3, 4)``."""
    setattr(self, name, values[0] if len(values) == 1 else type(getattr(self, name))(*values))


def _look_up(otherwise: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """The look-up of a class, with ``connect`` and ``disconnect`` as PythonQt has them."""

    def look_up(self: Any, name: str) -> Any:
        if name not in ("connect", "disconnect"):
            return otherwise(self, name)

        def call(*arguments: Any) -> Any:
            signal = arguments[0] if len(arguments) == 2 else None
            if not isinstance(signal, str) or signal[:1] == "2":  # PySide itself, which marks signals by a 2
                return otherwise(self, name)(*arguments)
            key = (id(self), signal, arguments[1])
            if name == "connect":
                _SLOTS[key] = _function_of(arguments[1])
            getattr(signal_of(self, signal), name)(_SLOTS[key])
            return True

        return call

    return look_up


_SLOTS: dict[tuple[int, str, Any], Callable[..., Any]] = {}


def _function_of(slot: Callable[..., Any]) -> Callable[..., Any]:
    """A function that hands a slot as many of the signal's values as it takes."""
    told = inspect.signature(slot).parameters.values()
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in told):
        return lambda *values: slot(*values)
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in told)
    return lambda *values: slot(*values[:count])


def signal_of(sender: Any, signature: str) -> Any:
    """The signal of a signature such as ``clicked(bool)``; ValueError where the class has none of that signature."""
    aliases = getattr(type(sender), "SIGNALS", {})
    if signature in aliases:
        return getattr(sender, aliases[signature])
    normal = QtCore.QMetaObject.normalizedSignature(signature).data().decode()
    name, _, arguments = normal.rstrip(")").partition("(")
    meta = sender.metaObject()
    if meta.indexOfSignal(normal) >= 0:
        overloads = {bytes(meta.method(n).methodSignature().data()).decode() for n in range(meta.methodCount())}
        bound = getattr(sender, name)
        several = sum(1 for text in overloads if text.startswith(f"{name}(")) > 1
        return bound[arguments] if several and arguments else bound
    if any(_takes_back_defaults(meta.method(n), name, arguments) for n in range(meta.methodCount())):
        return getattr(sender, name)
    raise ValueError(f"{meta.className()} has no signal {signature}")


def _takes_back_defaults(method: Any, name: str, arguments: str) -> bool:
    """Whether a signal has this name and more arguments: ``clicked()`` stands for ``clicked(bool checked = false)``."""
    is_signal = method.methodType() == QtCore.QMetaMethod.Signal
    return bool(is_signal and not arguments and bytes(method.name().data()).decode() == name)


def _turn_properties_on() -> None:
    before = _methods_before()
    with _torch_aside():
        from __feature__ import true_property  # noqa: F401

    # PySide notes for each module whether it wants properties. Those that imported this one do, whatever it noted.
    noted = sys.modules["shibokensupport.feature"].pyside_feature_dict
    noted.update(dict.fromkeys([name for name, choice in noted.items() if choice == 0], noted[__name__]))
    for cls, methods in before.items():
        _put_back(cls, methods)
    QtCore.QObject.setObjectName = lambda self, name: setattr(self, "objectName", name)
    QtCore.QObject.name = property(lambda self: self.objectName, lambda self, name: setattr(self, "objectName", name))
    QtCore.QObject.className = lambda self: self.metaObject().className()
    # PySide answers "connect" before it looks into the class, so the look-up itself has to be replaced.
    for cls in before:
        if "__getattribute__" in vars(cls):
            cls.__getattribute__ = _look_up(cls.__getattribute__)


_turn_properties_on()


class QtModule(ModuleType):
    """The flat module ``qt``."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the harness has no qt.{name}; check that PythonQt has it, then add it to CLASSES")


def qt_module(ui_loader: type) -> ModuleType:
    """The module ``qt`` with a class that loads ``.ui`` files."""
    module = QtModule("qt", __doc__)
    for source, names in CLASSES.items():
        for name in names.split():
            setattr(module, name, getattr(_MODULES[source], name))
    module.QUiLoader = ui_loader
    return module
