package jdk.nashorn.api.scripting;

/** Maxwell asks of every value whether it came from a JavaScript filter; Java has had no JavaScript since 15, so none ever does. */
public abstract class ScriptObjectMirror {}
